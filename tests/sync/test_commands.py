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
    """Run a command where no settings are but these."""
    with tempfile.TemporaryDirectory() as home:
        settings = {"PYTHONPATH": str(ROOT), "HOME": home, "COLUMNS": "200", **environment}
        return await forked.run(list(map(str, arguments)), environment=settings, cwd=Path(home))


def written(folder: Path, **documents: Any) -> Path:
    """A folder with a file for each document."""
    folder.mkdir(exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(document if isinstance(document, str) else dump_text(document))
    return folder


async def test_templates_in_order(tmp_path: Path) -> None:
    """A set without a fault ends with 0; scripts of conversations beside it are left aside."""
    place = written(
        tmp_path, desk=desk("Billing", number="+14155550123"), billing=agent(), talks="conversations: []"
    )
    ran = await run("check", place)
    assert (ran.status, ran.out, ran.err) == (0, "2 templates, 0 errors, 0 warnings\n", "")


async def test_faults_are_told_by_file_and_line(tmp_path: Path) -> None:
    """Each fault is a line with file, line, place, what is wrong and what to do; errors end with 1."""
    place = written(tmp_path, desk=desk("Biling"), billing=agent(lanugage="en"))
    ran = await run("check", place / "desk.yaml", place / "billing.yaml")
    assert ran.status == 1, ran
    lines = ran.out.splitlines()
    assert (
        f"{place}/desk.yaml:9: /routes/0/template: error: No template of this set has the name 'Biling'."
        in ran.out
    )
    assert any(line.startswith(f"{place}/billing.yaml:9: /lanugage: error: Unknown field") for line in lines)
    assert any("/number_id: warning:" in line for line in lines)
    assert lines[-1] == "2 templates, 2 errors, 2 warnings"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [", "bad.yaml:2: This is not YAML"),
        ("a: &x 1\nb: *x", "bad.yaml:2: Aliases"),
        ("5", "bad.yaml: A template with a `name`"),
    ],
)
async def test_a_file_that_cannot_be_read_ends_with_2(tmp_path: Path, text: str, told: str) -> None:
    """What is no template file is named with its line, for people and for programs, without a traceback."""
    place = written(tmp_path, bad=text + "\n")
    ran = await run("check", place)
    assert (ran.status, ran.out) == (2, ""), ran
    assert told in ran.err
    assert "Traceback" not in ran.err
    as_json = await run("check", place, "--json")
    assert as_json.status == 2
    [fault] = json.loads(as_json.out)["faults"]
    assert told in fault["message"]


def corpus() -> dict[str, Any]:
    """Every way to break a rule, each in a template of its own name, as files have it."""
    found: dict[str, Any] = {}
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
            if read_text(dump_text(document)).document == document:
                found[f"{index:03}-{fault.code}"] = document
        except (UnreadableText, UnicodeEncodeError, RecursionError):
            continue  # no file can have it
    return found


async def test_the_command_and_the_api_say_the_same(
    tmp_path: Path, tenant: Tenant, database_url: str
) -> None:
    """For every way to break a rule, `voicebot check` and `POST /templates/check` give the same report."""
    scene = make_account()
    agents = [each for key, each in scene.documents.items() if key != ORCHESTRATOR_ID]
    made = await tenant.owner.post("/templates/import", json={"templates": agents})
    assert made.status_code == 200, made.text
    broken = corpus()
    assert len(broken) > 100
    place = written(tmp_path / "broken", **broken)
    servers = dict.fromkeys(("DEEPGRAM_URL", "ELEVENLABS_URL", "OPENAI_BASE_URL"), "http://127.0.0.1:9")
    account = str(tenant.account_id)
    ran = await run("check", place, "--json", "--account", account, DATABASE_URL=database_url, **servers)
    assert ran.status == 1, ran.err
    reports = {Path(each["file"]).stem: each for each in json.loads(ran.out)["templates"]}
    assert reports.keys() == broken.keys()
    for name, document in broken.items():
        told = (await tenant.owner.post("/templates/check", json=document)).json()
        assert {key: reports[name][key] for key in ("ok", "errors", "warnings")} == told, name


async def test_there_and_back_by_a_server(tmp_path: Path, server: RunningServer, tenant: Tenant) -> None:
    """Pull, push and diff by a server's address and a key, with what happened told in lines."""
    place = written(tmp_path / "templates", desk=desk("Billing"), billing=agent())
    key = {"VOICEBOT_API_KEY": tenant.keys["author"]}
    pushed = await run("push", place, "--url", server.url, **key)
    assert (pushed.status, pushed.out) == (0, "Billing: created\nFront desk: created\n"), pushed
    (place / "billing.yaml").write_text(dump_text(agent(description="Mine.")))
    differs = await run("diff", place, "--url", server.url, **key)
    assert differs.status == 1
    assert "-description: Knows about Billing.\n+description: Mine.\n" in differs.out
    trial = await run("push", place, "--url", server.url, "--dry-run", **key)
    assert (trial.status, trial.out) == (0, "Billing: would be updated\n")
    again = await run("push", place, "--url", server.url, **key)
    assert (again.status, again.out) == (0, "Billing: updated\n")
    same = await run("diff", place, "--url", server.url, **key)
    assert (same.status, same.out) == (0, "")
    pulled = await run("pull", tmp_path / "other", "--url", server.url, **key)
    assert (pulled.status, pulled.out) == (0, "Billing: written\nFront desk: written\n")
    (place / "billing.yaml").write_text(dump_text(agent(lanugage="en")))
    refused = await run("push", place, "--url", server.url, **key)
    assert refused.status == 1
    assert f"{place}/billing.yaml:9: /lanugage: Unknown field" in refused.err


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


async def test_there_and_back_by_the_database(tmp_path: Path, only_tenant: Tenant, dsn: str) -> None:
    """The same with the database of the settings, in the only account there is."""
    place = written(tmp_path / "templates", billing=agent())
    pushed = await run("push", place, DATABASE_URL=dsn)
    assert (pushed.status, pushed.out) == (0, "Billing: created\n"), pushed
    saved = (await only_tenant.owner.get("/templates")).json()["items"]
    assert [(each["name"], each["status"]) for each in saved] == [("Billing", "active")]
    pulled = await run("pull", place, DATABASE_URL=dsn)
    assert (pulled.status, pulled.out) == (0, "Nothing has changed.\n")
    (place / "billing.yaml").write_text(dump_text(agent(description="Mine.")))
    headers = {"If-Match": "*"}
    await only_tenant.owner.patch(
        f"/templates/{saved[0]['id']}", json={"description": "Theirs."}, headers=headers
    )
    clash = await run("pull", place, DATABASE_URL=dsn)
    assert (clash.status, clash.out.partition(":")[0]) == (1, "Billing")
    refused = await run("push", place, DATABASE_URL=dsn)
    assert refused.status == 1
    assert "'Billing' is at revision 2, saved by the key" in refused.err


async def test_secrets_come_from_a_file_beside(tmp_path: Path, only_account: str) -> None:
    """What is `***` in git is taken from a file that is not; a secret that nobody asks for is told."""
    function = {
        "type": "http", "name": "find", "description": "Finds.", "url": "https://example.com/",
        "secret_headers": {"Authorization": "***"},
    }  # fmt: skip
    place = written(tmp_path / "templates", billing=agent(functions=[function]))
    refused = await run("push", place, DATABASE_URL=only_account)
    assert refused.status == 1
    assert "/functions/0/secret_headers/Authorization: '***' keeps a stored secret" in refused.err
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("Billing: {find: {Authorization: Bearer abyss}, fnd: {Authorization: x}}")
    pushed = await run("push", place, "--secrets", secrets, DATABASE_URL=only_account)
    assert (pushed.status, pushed.out) == (0, "Billing: created\n"), pushed
    assert pushed.err == "No template here asks for the secret Billing / fnd / Authorization.\n"
    again = await run("push", place, DATABASE_URL=only_account)
    assert (again.status, again.out) == (0, "Nothing has changed.\n")
    secrets.write_text("Billing: {find: {Authorization: Bearer other}}")
    changed = await run("push", place, "--secrets", secrets, DATABASE_URL=only_account)
    assert (changed.status, changed.out, changed.err) == (0, "Billing: updated\n", "")
    secrets.write_text("Billing: {find: Bearer abyss}")
    bad = await run("push", place, "--secrets", secrets, DATABASE_URL=only_account)
    assert bad.status == 2
    assert f"{secrets}:1: /Billing/find: Template, function, header" in bad.err
    assert "abyss" not in bad.err


@pytest.mark.parametrize(
    ("environment", "arguments", "told"),
    [
        ({}, ("--url", "http://127.0.0.1:9"), "Set VOICEBOT_API_KEY"),
        ({"VOICEBOT_API_KEY": "vb_x"}, ("--url", "http://127.0.0.1:9"), "cannot be reached"),
    ],
)
async def test_an_account_that_cannot_be_asked(
    tmp_path: Path, environment: dict[str, str], arguments: tuple[str, ...], told: str
) -> None:
    """Without a key, or without a server, every command ends with 2 and a sentence."""
    for command in ("pull", "push", "diff"):
        ran = await run(command, written(tmp_path, billing=agent()), *arguments, **environment)
        assert ran.status == 2, ran
        assert told in ran.err
        assert "Traceback" not in ran.err


async def test_a_wrong_key_is_told(tmp_path: Path, server: RunningServer) -> None:
    """A key that opens nothing is refused in the server's words."""
    ran = await run("pull", tmp_path / "x", "--url", server.url, VOICEBOT_API_KEY="vb_wrong")
    assert ran.status == 2
    assert "The key is unknown or revoked." in ran.err


async def test_the_schema_is_printed(tenant: Tenant) -> None:
    """`voicebot schema` is what the API answers, and a schema of the sets in these tests."""
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
