"""Commands of the operator of a server: `voicebot secrets reencrypt` and `voicebot journal forget`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from db import accounts, channels, journal, revisions, templates
from db.ids import new_id
from db.journal import PartRecord
from db.pool import Database
from voicebot.authoring import Authoring, Editor
from voicebot.cli import app
from voicebot.config import Settings
from voicebot.handoffs.journal_chain import JournalKeys
from voicebot.handoffs.journal_files import JournalFiles
from voicebot.vault import Vault

OLD, NEW = "old-" * 8, "new-" * 8


def vault(keys: str) -> Vault:
    """The vault of a server with these keys."""
    return Vault(*Settings(_env_file=None, VOICEBOT_SECRET_KEY=keys).fernet_keys())


def document(**more: Any) -> dict[str, Any]:
    """A template with a secret header, and a text that looks like a stored secret."""
    function = {
        "type": "http",
        "name": "find_order",
        "description": "Looks an order up.",
        "url": "https://orders.example.com/find",
        "secret_headers": {"Authorization": "Bearer secret"},
    }
    return {"name": "Orders", "prompt": 'sealed:x in "secret_headers"', "functions": [function], **more}


def secrets_of(content: Mapping[str, Any]) -> list[str]:
    """The stored secrets of a template."""
    return [value for each in content["functions"] for value in each["secret_headers"].values()]


async def run(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], *arguments: str) -> Result:
    """Run a command in a thread, as it has an event loop of its own."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def test_secrets_are_encrypted_with_the_first_key_after_a_rotation(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards the new key alone reads all secrets, nothing else has changed, and again changes nothing."""
    account_id = (await accounts.create(database, "Acme")).id
    editor, authoring = Editor(account_id=account_id, key_id=None), Authoring(database, vault(OLD))
    first = await authoring.create(editor, document())
    saved = await authoring.replace(editor, first, document(description="x"))
    await authoring.create(editor, {"name": "No secrets"})
    channel = await channels.create(
        database, account_id, "webhook", "https://acme.example/", secret=vault(OLD).seal("whsec_x")
    )
    lost = await channels.create(
        database, account_id, "webhook", "https://b.example/", secret=vault("another-" * 4).seal("y")
    )
    environment = {"DATABASE_URL": database.dsn, "VOICEBOT_DATA_DIR": str(tmp_path)}

    both = {**environment, "VOICEBOT_SECRET_KEY": f"{NEW},{OLD}"}
    result = await run(monkeypatch, both, "secrets", "reencrypt", "--json")
    again = await run(monkeypatch, both, "secrets", "reencrypt", "--json")

    facts = json.loads(result.stdout)
    assert (result.exit_code, facts) == (1, {"reencrypted": 4, "current": 0, "unreadable": 1})
    assert json.loads(again.stdout) == {"reencrypted": 0, "current": 4, "unreadable": 1}
    now = await templates.get(database, account_id, saved.id)
    assert (now.revision, now.updated_at) == (saved.revision, saved.updated_at)
    assert {**now.content, "functions": []} == {**saved.content, "functions": []}
    kept = [await revisions.get(database, account_id, saved.id, number) for number in (1, 2)]
    for content in (now.content, *(each.content for each in kept)):
        assert [vault(NEW).open(each) for each in secrets_of(content)] == ["Bearer secret"]
    secret = (await channels.get(database, account_id, channel.id)).secret
    assert secret is not None
    assert vault(NEW).open(secret) == "whsec_x"
    assert (await channels.get(database, account_id, lost.id)).secret == lost.secret


async def test_a_lost_directory_of_the_journal_is_removed_from_the_register(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` names a directory that is lost, `forget` removes it; a directory on this host stays."""
    keys = Settings(_env_file=None, VOICEBOT_SECRET_KEY=NEW).fernet_keys()
    files = JournalFiles(tmp_path / "journal", JournalKeys(keys))
    files.open()
    here = new_id()
    files.set_part_id(here)
    files.close()
    lost = new_id()
    for part_id, directory, lines in ((lost, "/srv/lost/journal", 7), (here, str(tmp_path / "journal"), 0)):
        part = PartRecord(
            id=part_id,
            host="other",
            directory=directory,
            last_line=lines,
            last_hash="x",
            updated_at=datetime.now(UTC),
        )
        await journal.record_part(database, part)
    environment = {
        "DATABASE_URL": database.dsn,
        "VOICEBOT_DATA_DIR": str(tmp_path),
        "VOICEBOT_SECRET_KEY": NEW,
    }

    missing = await run(monkeypatch, environment, "journal", "verify")
    refused = await run(monkeypatch, environment, "journal", "forget", str(here))
    forgotten = await run(monkeypatch, environment, "journal", "forget", str(lost))
    unknown = await run(monkeypatch, environment, "journal", "forget", str(lost))
    whole = await run(monkeypatch, environment, "journal", "verify")

    assert (missing.exit_code, f"voicebot journal forget {lost}" in missing.output) == (1, True)
    assert (refused.exit_code, "is on this host" in refused.output) == (1, True)
    assert (forgotten.exit_code, "/srv/lost/journal on other" in forgotten.output) == (0, True)
    assert (unknown.exit_code, "is not in the register" in unknown.output) == (1, True)
    assert whole.exit_code == 0
    assert set(await journal.parts(database)) == {here}
