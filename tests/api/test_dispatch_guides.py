"""The commands of the guides to outbound and inbound calls do what the guides say."""

from __future__ import annotations

import asyncio
import json
import os
import re
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from tests.api.server_fixture import RunningServer, Tenant

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
_COMMANDS = re.compile(r"```bash\n(.*?)```", re.DOTALL)


async def answers(guide: str, directory: Path, **variables: str) -> list[dict[str, Any]]:
    """What the server answers to each command of a guide, run in a shell with these variables."""
    found = []
    for command in _COMMANDS.findall((GUIDES / guide).read_text(encoding="utf-8")):
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", command, stdout=PIPE, cwd=directory, env={**os.environ, **variables}
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, command
        found.append(json.loads(out))
    return found


async def variables_of(server: RunningServer, tenant: Tenant) -> dict[str, str]:
    """The variables that the commands use."""
    number = await tenant.number()
    agent = await tenant.agent(variables=[{"name": "customer", "type": "string", "required": True}])
    return {
        "API": f"{server.url}/api/v1", "KEY": tenant.keys["owner"], "NUMBER": number["id"],
        "TEMPLATE": agent["id"], "BILLING": agent["id"],
    }  # fmt: skip


async def test_the_guide_to_outbound_calls(server: RunningServer, tenant: Tenant, tmp_path: Path) -> None:
    """A lead, an upload and prices."""
    (tmp_path / "people.csv").write_text("phone,customer\n+14155550111,Ada\n+14155550112,Bo\n")
    lead, upload, account = await answers("outbound.md", tmp_path, **await variables_of(server, tenant))
    assert (lead["status"], lead["phone"], lead["time_zone"]) == (
        "queued", "+14155550199", "America/Los_Angeles",
    )  # fmt: skip
    assert (upload["accepted"], upload["refused_total"], upload["refused"]) == (2, 0, [])
    assert account["prices"]["currency"] == "USD"
    assert account["prices"]["llm"]["openai/gpt-4.1-mini"]["cached"] == 0.1


async def test_the_guide_to_inbound_calls(server: RunningServer, tenant: Tenant, tmp_path: Path) -> None:
    """The policy of a number, and that of a template."""
    number, template = await answers("inbound.md", tmp_path, **await variables_of(server, tenant))
    assert number["inbound"]["refusals"]["outside_hours"]["action"] == "callback"
    assert number["inbound"]["per_caller"] == {"calls": 5, "per_ms": 3_600_000}
    assert number["inbound"]["accepting"] is True
    assert template["inbound"]["hours"]["to"] == "15:00"
    assert template["inbound"]["refusal"]["action"] == "say"
