"""`voicebot check`, `pull`, `push`, `diff` and `schema`, as processes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from db import accounts
from db.pool import Database
from templates.sets import UnreadableText, dump_text, read_text
from tests import forked
from tests.api.server_fixture import RunningServer, Tenant, create_tenant, serving
from tests.forked import Ran
from tests.sync.conftest import agent, desk
from tests.templates.rule_violations import VIOLATIONS
from tests.templates.sample_accounts import ORCHESTRATOR_ID, make_account
from voicebot.config import Settings

ROOT = Path(__file__).parents[2]


async def run(*arguments: str | Path, **environment: str) -> Ran:
    """Run a command with these settings only."""
    with tempfile.TemporaryDirectory() as home:
        settings = {"PYTHONPATH": str(ROOT), "HOME": home, "COLUMNS": "200", **environment}
        return await forked.run(list(map(str, arguments)), environment=settings, cwd=Path(home))


def write_files(directory: Path, **documents: Any) -> Path:
    """Write a file for each document into a directory."""
    directory.mkdir(exist_ok=True)
    for name, document in documents.items():
        (directory / f"{name}.yaml").write_text(
            document if isinstance(document, str) else dump_text(document)
        )
    return directory


async def test_check_without_faults(tmp_path: Path) -> None:
    """A set without faults ends with status 0; scripts of conversations beside it are ignored."""
    directory = write_files(
        tmp_path, desk=desk("Billing", number="+14155550123"), billing=agent(), talks="conversations: []"
    )
    ran = await run("check", directory)
    assert (ran.status, ran.out, ran.err) == (0, "2 templates, 0 errors, 0 warnings\n", "")


async def test_check_reports_file_and_line(tmp_path: Path) -> None:
    """Each problem is a line with file, line, pointer, message and remedy; errors end with status 1."""
    directory = write_files(tmp_path, desk=desk("Biling"), billing=agent(lanugage="en"))
    ran = await run("check", directory / "desk.yaml", directory / "billing.yaml")
    assert ran.status == 1, ran
    lines = ran.out.splitlines()
    assert (
        f"{directory}/desk.yaml:9: /routes/0/template: error: No template of this set has the name 'Biling'."
        in ran.out
    )
    assert any(
        line.startswith(f"{directory}/billing.yaml:9: /lanugage: error: Unknown field") for line in lines
    )
    assert any("/number_id: warning:" in line for line in lines)
    assert lines[-1] == "2 templates, 2 errors, 2 warnings"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "bad.yaml:2: This is not YAML"),
        ("a: &x 1\nb: *x", "bad.yaml:2: Aliases"),
        ("5", "bad.yaml: A template with a `name`"),
    ],
)
async def test_unreadable_file_ends_with_2(tmp_path: Path, text: str, message: str) -> None:
    """A file that is not a template file is named with its line, as text and as JSON, without a traceback."""
    directory = write_files(tmp_path, bad=text + "\n")
    ran = await run("check", directory)
    assert (ran.status, ran.out) == (2, ""), ran
    assert message in ran.err
    assert "Traceback" not in ran.err
    as_json = await run("check", directory, "--json")
    assert as_json.status == 2
    [fault] = json.loads(as_json.out)["faults"]
    assert message in fault["message"]


def corpus() -> dict[str, str]:
    """Every rule violation, each in a template with its own name, as the text of a file."""
    found: dict[str, str] = {}
    for index, fault in enumerate(VIOLATIONS):
        scene = make_account()
        names = {key: document["name"] for key, document in scene.documents.items()}
        fault.apply(scene)
        document = scene.document
        if isinstance(document.get("name"), str) and document["name"].strip():
            names[scene.checked] = document["name"] = f"{index} {document['name']}"
        for route in document["routes"] if isinstance(document.get("routes"), list) else ():
            if isinstance(route, dict) and route.get("template_id") in names:
                route["template"] = names[route.pop("template_id")]
        try:
            text = dump_text(document)
            if read_text(text).document == document:
                found[f"{index:03}-{fault.code}"] = text
        except (UnreadableText, UnicodeEncodeError, RecursionError):
            continue  # no file can have it
    return found


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_command_and_api_give_the_same_report(
    tmp_path: Path, tenant: Tenant, database_url: str
) -> None:
    """For every rule violation, `voicebot check` and `POST /templates/check` give the same report."""
    scene = make_account()
    agents = [each for key, each in scene.documents.items() if key != ORCHESTRATOR_ID]
    made = await tenant.owner.post("/templates/import", json={"templates": agents})
    assert made.status_code == 200, made.text
    broken = corpus()
    assert len(broken) > 100
    directory = write_files(tmp_path / "broken", **broken)
    servers = dict.fromkeys(("DEEPGRAM_URL", "ELEVENLABS_URL", "OPENAI_BASE_URL"), "http://127.0.0.1:9")
    account = str(tenant.account_id)
    ran = await run("check", directory, "--json", "--account", account, DATABASE_URL=database_url, **servers)
    assert ran.status == 1, ran.err
    reports = {Path(each["file"]).stem: each for each in json.loads(ran.out)["templates"]}
    assert reports.keys() == broken.keys()
    for name, text in broken.items():
        document = read_text(text).document
        expected = (await tenant.owner.post("/templates/check", json=document)).json()
        assert {key: reports[name][key] for key in ("ok", "errors", "warnings", "notes")} == expected, name


async def test_round_trip_with_a_server(tmp_path: Path, server: RunningServer, tenant: Tenant) -> None:
    """Pull, push and diff with a server's URL and a key print what they do."""
    directory = write_files(tmp_path / "templates", desk=desk("Billing"), billing=agent())
    key = {"VOICEBOT_API_KEY": tenant.keys["author"]}
    pushed = await run("push", directory, "--url", server.url, **key)
    assert (pushed.status, pushed.out) == (0, "Billing: created\nFront desk: created\n"), pushed
    (directory / "billing.yaml").write_text(dump_text(agent(description="Mine.")))
    differs = await run("diff", directory, "--url", server.url, **key)
    assert differs.status == 1
    assert "-description: Knows about Billing.\n+description: Mine.\n" in differs.out
    dry_run = await run("push", directory, "--url", server.url, "--dry-run", **key)
    assert (dry_run.status, dry_run.out) == (0, "Billing: would be updated\n")
    again = await run("push", directory, "--url", server.url, **key)
    assert (again.status, again.out) == (0, "Billing: updated\n")
    same = await run("diff", directory, "--url", server.url, **key)
    assert (same.status, same.out) == (0, "")
    pulled = await run("pull", tmp_path / "other", "--url", server.url, **key)
    assert (pulled.status, pulled.out) == (0, "Billing: written\nFront desk: written\n")
    (directory / "billing.yaml").write_text(dump_text(agent(lanugage="en")))
    refused = await run("push", directory, "--url", server.url, **key)
    assert refused.status == 1
    assert f"{directory}/billing.yaml:9: /lanugage: Unknown field" in refused.err


@pytest.fixture
async def only_tenant(dsn: str, shared_settings: Settings, tmp_path: Path) -> AsyncIterator[Tenant]:
    """The only account of a database, behind a server."""
    settings = shared_settings.model_copy(update={"database_url": dsn, "data_dir": tmp_path})
    async with (
        serving(settings) as server,
        create_tenant(server.url, server.app_state.database) as tenant,
    ):
        yield tenant


@pytest.fixture
async def only_account(dsn: str) -> str:
    """DSN of a database with one account."""
    database = await Database.connect(dsn)
    await accounts.create(database, "Acme")
    await database.close()
    return dsn


async def test_round_trip_with_the_database(tmp_path: Path, only_tenant: Tenant, dsn: str) -> None:
    """The same with the database of the settings and its only account."""
    directory = write_files(tmp_path / "templates", billing=agent())
    pushed = await run("push", directory, DATABASE_URL=dsn)
    assert (pushed.status, pushed.out) == (0, "Billing: created\n"), pushed
    saved = (await only_tenant.owner.get("/templates")).json()["items"]
    assert [(each["name"], each["status"]) for each in saved] == [("Billing", "active")]
    pulled = await run("pull", directory, DATABASE_URL=dsn)
    assert (pulled.status, pulled.out) == (0, "No changes.\n")
    (directory / "billing.yaml").write_text(dump_text(agent(description="Mine.")))
    headers = {"If-Match": "*"}
    await only_tenant.owner.patch(
        f"/templates/{saved[0]['id']}", json={"description": "Theirs."}, headers=headers
    )
    conflict = await run("pull", directory, DATABASE_URL=dsn)
    assert (conflict.status, conflict.out.partition(":")[0]) == (1, "Billing")
    refused = await run("push", directory, DATABASE_URL=dsn)
    assert refused.status == 1
    assert "'Billing' is at revision 2, saved by the key" in refused.err


async def test_push_with_a_file_of_secrets(tmp_path: Path, only_account: str) -> None:
    """Secrets for `***` come from a file that is not in git; an unused secret is reported."""
    function = {
        "type": "http", "name": "find", "description": "Finds.", "url": "https://example.com/",
        "secret_headers": {"Authorization": "***"},
    }  # fmt: skip
    directory = write_files(tmp_path / "templates", billing=agent(functions=[function]))
    refused = await run("push", directory, DATABASE_URL=only_account)
    assert refused.status == 1
    assert "/functions/0/secret_headers/Authorization: '***' keeps the secret" in refused.err
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("Billing: {find: {Authorization: Bearer abyss}, fnd: {Authorization: x}}")
    pushed = await run("push", directory, "--secrets", secrets, DATABASE_URL=only_account)
    assert (pushed.status, pushed.out) == (0, "Billing: created\n"), pushed
    assert pushed.err == "No template uses the secret Billing / fnd / Authorization.\n"
    again = await run("push", directory, DATABASE_URL=only_account)
    assert (again.status, again.out) == (0, "No changes.\n")
    secrets.write_text("Billing: {find: {Authorization: Bearer other}}")
    changed = await run("push", directory, "--secrets", secrets, DATABASE_URL=only_account)
    assert (changed.status, changed.out, changed.err) == (0, "Billing: updated\n", "")
    secrets.write_text("Billing: {find: Bearer abyss}")
    bad = await run("push", directory, "--secrets", secrets, DATABASE_URL=only_account)
    assert bad.status == 2
    assert f"{secrets}:1: /Billing/find: A mapping of template, function and header" in bad.err
    assert "abyss" not in bad.err


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({}, ("--url", "http://127.0.0.1:9"), "Set VOICEBOT_API_KEY"),
        ({"VOICEBOT_API_KEY": "vb_x"}, ("--url", "http://127.0.0.1:9"), "cannot be reached"),
    ],
)
async def test_unreachable_account(
    tmp_path: Path, environment: dict[str, str], arguments: tuple[str, ...], message: str
) -> None:
    """Without a key, or without a server, every command ends with status 2 and a message."""
    for command in ("pull", "push", "diff"):
        ran = await run(command, write_files(tmp_path, billing=agent()), *arguments, **environment)
        assert ran.status == 2, ran
        assert message in ran.err
        assert "Traceback" not in ran.err


async def test_wrong_key(tmp_path: Path, server: RunningServer) -> None:
    """An unknown key is refused with the server's message."""
    ran = await run("pull", tmp_path / "x", "--url", server.url, VOICEBOT_API_KEY="vb_wrong")
    assert ran.status == 2
    assert "The key is unknown or revoked." in ran.err


async def test_schema(tenant: Tenant) -> None:
    """`voicebot schema` prints what the API answers; the sets of these tests fit it."""
    ran = await run("schema")
    assert ran.status == 0
    schema = json.loads(ran.out)
    assert schema == (await tenant.owner.get("/templates/schema", params={"form": "file"})).json()
    validator = Draft202012Validator(schema)
    for document in (
        agent(),
        {"templates": [desk("Billing"), agent()], "expect": {"Billing": 3, "New": None}},
    ):
        assert list(validator.iter_errors(document)) == []
    for document in (agent(lanugage="en"), {"templates": [{"prompt": "x"}]}, desk("Billing", number="12")):
        assert list(validator.iter_errors(document)) != []
