from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from db.pool import Database
from tests.api.processes import VOICEBOT, server
from tests.api.server_fixture import client, create, create_tenant, orchestrator_document

pytestmark = pytest.mark.long

SERVE = (*VOICEBOT, "serve")
SAVES = 200


async def test_one_of_200_racing_saves_wins(database: Database, tmp_path: Path) -> None:
    """Of 200 orchestrators saved at once through two processes for a number, one wins, the rest name it."""
    environment = {
        "DATABASE_URL": database.dsn,
        "VOICEBOT_DATA_DIR": str(tmp_path),
        "VOICEBOT_SECRET_KEY": "k" * 32,
    }
    async with (
        server(SERVE, environment, tmp_path) as (first, _),
        server(SERVE, environment, tmp_path) as (second, _),
        create_tenant(first, database) as tenant,
        client(second, tenant.keys["owner"]) as elsewhere,
    ):
        target, number = await tenant.agent(), await tenant.number()

        async def save(index: int) -> tuple[int, str]:
            document = orchestrator_document(f"Desk {index}", target["id"], number["id"])
            response = await (tenant.owner, elsewhere)[index % 2].post("/templates", json=document)
            answer = response.json()
            if response.status_code == 201:
                return 201, answer["id"]
            assert answer["code"] == "orchestrator_exists", response.text
            return response.status_code, answer["conflicting_template_id"]

        outcomes = Counter(await asyncio.gather(*(save(index) for index in range(SAVES))))
        (winner,) = [named for status, named in outcomes if status == 201]
        assert outcomes == {(201, winner): 1, (409, winner): SAVES - 1}


async def test_racing_activations_have_one_winner(database: Database, tmp_path: Path) -> None:
    """Drafts of one number activated at once: one becomes active, and the errors of the others name it."""
    environment = {
        "DATABASE_URL": database.dsn,
        "VOICEBOT_DATA_DIR": str(tmp_path),
        "VOICEBOT_SECRET_KEY": "k" * 32,
    }
    async with (
        server(SERVE, environment, tmp_path) as (url, _),
        create_tenant(url, database) as tenant,
    ):
        target, number = await tenant.agent(), await tenant.number()
        drafts = [
            await create(
                tenant.owner,
                "/templates",
                {**orchestrator_document(f"Desk {index}", target["id"], number["id"]), "status": "draft"},
            )
            for index in range(20)
        ]
        answers = await asyncio.gather(
            *(tenant.owner.post(f"/templates/{draft['id']}/activate") for draft in drafts)
        )
        (winner,) = [answer.json()["id"] for answer in answers if answer.status_code == 200]
        named = {answer.json()["conflicting_template_id"] for answer in answers if answer.status_code == 409}
        assert named == {winner}
