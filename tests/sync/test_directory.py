"""Pulling, pushing and comparing: no work is lost on either side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from db.pool import Database
from handlers.registry import HANDLERS
from templates.schema import file_schema
from templates.sets import dump_text
from tests.api.conftest import NewTenant
from tests.api.server_fixture import RunningServer, Tenant
from tests.sync.conftest import agent, desk
from tests.templates.sample_accounts import SampleAccount, sample_accounts
from voicebot.authoring.files import BadFiles
from voicebot.sync.account import Account, Refused
from voicebot.sync.database_account import DatabaseAccount
from voicebot.sync.pull import PullOptions, pull
from voicebot.sync.push import PushOptions, PushResult, faults_of, push
from voicebot.sync.reports import diff_report
from voicebot.sync.state_file import NAME, load
from voicebot.sync.template_directory import TemplateDirectory

HEADER = "# yaml-language-server: $schema=.schema.json\n"
SCHEMA = file_schema()


async def pulled(directory: Path, account: Account, **options: bool) -> dict[str, str]:
    """Pull, and return the step of each template."""
    result = await pull(TemplateDirectory(directory), account, PullOptions(**options), SCHEMA)
    return dict(result.steps)


async def pushed(directory: Path, account: Account, **options: Any) -> dict[str, str]:
    """Push, and return the action of each template."""
    result = await push(TemplateDirectory(directory), account, PushOptions(**options))
    return {each.name: each.action for each in result.saved} | dict.fromkeys(result.deleted, "deleted")


async def saved(account: Account, *documents: dict[str, Any]) -> None:
    """Save templates in the account as another client does."""
    await account.save(documents, {}, dry_run=False)


async def revisions(account: Account) -> dict[str, int]:
    """The revision of each template of the account."""
    return {each.name: each.revision for each in await account.templates()}


def write(path: Path, document: Any) -> None:
    """Write a file by hand."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump_text(document))


def files(directory: Path) -> dict[str, Path]:
    """The template files of a directory, by name."""
    return {each.name: each for each in directory.glob("*.yaml")}


async def test_pull_does_not_follow_a_planted_link(tmp_path: Path, account: Account) -> None:
    """A link in the place of a file, or of its temporary file, is replaced; its target is not written."""
    await saved(account, agent())
    directory, victim = tmp_path / "templates", tmp_path / "victim"
    victim.write_text("mine")
    directory.mkdir()
    for name in (".schema.json", ".billing.yaml.new", "..schema.json.new", f".{NAME}.new"):
        (directory / name).symlink_to(victim)
    assert await pulled(directory, account) == {"Billing": "written"}

    assert victim.read_text() == "mine"
    assert sorted(each.name for each in directory.iterdir() if not each.is_symlink()) == [
        ".schema.json",
        NAME,
        "billing.yaml",
    ]
    assert not any(each.is_symlink() for each in directory.iterdir())


def texts(directory: Path) -> dict[str, str]:
    """The texts of the template files."""
    return {name: path.read_text() for name, path in files(directory).items()}


def everything(directory: Path) -> set[str]:
    """The names of all files of a directory."""
    return {each.name for each in directory.iterdir()}


def read(path: Path) -> Any:
    """The document in a YAML file."""
    return yaml.safe_load(path.read_text())


async def test_pull_writes_a_file_per_template(directory: Path, account: Account) -> None:
    """A pull writes a file for each template, named after it, with names for ids; and a schema."""
    await saved(
        account, desk("Billing & Co", "Zahlungen für Öl"), agent("Billing & Co"), agent("Zahlungen für Öl")
    )
    assert set((await pulled(directory, account)).values()) == {"written"}
    assert everything(directory) == {
        NAME, ".schema.json", "front-desk.yaml", "billing-co.yaml", "zahlungen-fur-ol.yaml"
    }  # fmt: skip
    text = (directory / "front-desk.yaml").read_text()
    assert text.startswith(HEADER + "name: Front desk\nkind: orchestrator\n")
    assert read(directory / "front-desk.yaml") == desk("Billing & Co", "Zahlungen für Öl")
    assert await pulled(directory, account) == {}
    assert await diff_report(TemplateDirectory(directory), account) == []


async def test_names_with_the_same_file_name_get_different_files(directory: Path, account: Account) -> None:
    """Two templates whose names give the same file name have two files, and keep them."""
    await saved(account, agent("Billing"), agent("billing!"), agent("料金"))
    await pulled(directory, account)
    assert {read(each)["name"] for each in files(directory).values()} == {"Billing", "billing!", "料金"}
    await saved(account, agent("billing!", description="New."))
    assert await pulled(directory, account) == {"billing!": "written"}
    assert {read(each)["name"] for each in files(directory).values()} == {"Billing", "billing!", "料金"}


async def test_pull_keeps_comments_and_layout(directory: Path, account: Account) -> None:
    """A file that equals the server's template is not written: comments, layout and order stay."""
    await saved(account, agent())
    await pulled(directory, account)
    path = directory / "billing.yaml"
    text = (
        "# mine\n" + path.read_text().replace("status: active\n", "") + "\nstatus: active # now\nidle: {}\n"
    )
    path.write_text(text)
    assert await pulled(directory, account) == {}
    assert path.read_text() == text
    assert await pushed(directory, account) == {"Billing": "unchanged"}
    await saved(account, agent(description="New."))
    assert await pulled(directory, account) == {"Billing": "written"}
    assert path.read_text().startswith("# mine\n" + HEADER + "name: Billing\n")
    assert read(path)["description"] == "New."


async def test_pull_does_not_overwrite_local_changes(directory: Path, account: Account) -> None:
    """A local change is kept; a change on both sides is a conflict, which --force resolves for the server."""
    await saved(account, agent(), agent("Sales"))
    await pulled(directory, account)
    write(directory / "billing.yaml", agent(description="Mine."))
    assert await pulled(directory, account) == {"Billing": "kept"}
    await saved(account, agent(description="Theirs."), agent("Sales", description="Theirs."))
    assert await pulled(directory, account) == {"Billing": "conflict", "Sales": "written"}
    assert read(directory / "billing.yaml")["description"] == "Mine."
    assert await pulled(directory, account, force=True) == {"Billing": "written"}
    assert read(directory / "billing.yaml")["description"] == "Theirs."


async def test_first_pull_into_a_directory_with_files(directory: Path, account: Account) -> None:
    """Existing files are not overwritten; those that equal the server's templates are synchronised."""
    await saved(account, agent(), agent("Sales"))
    write(directory / "one.yaml", {"templates": [agent(), agent("Sales", description="Mine.")]})
    assert await pulled(directory, account) == {"Sales": "conflict"}
    assert set(files(directory)) == {"one.yaml"}
    await saved(account, agent(description="New."))
    assert await pulled(directory, account) == {"Billing": "written", "Sales": "conflict"}
    assert [each["description"] for each in read(directory / "one.yaml")["templates"]] == ["New.", "Mine."]


async def test_pull_does_not_restore_deleted_files(directory: Path, account: Account) -> None:
    """A pull writes a file that was deleted here only with --force."""
    await saved(account, agent(), agent("Sales"))
    await pulled(directory, account)
    (directory / "sales.yaml").unlink()
    assert await pulled(directory, account) == {"Sales": "missing"}
    assert not (directory / "sales.yaml").exists()
    assert await pulled(directory, account, force=True) == {"Sales": "written"}
    assert read(directory / "sales.yaml")["name"] == "Sales"


async def test_pull_prunes_templates_deleted_on_the_server(directory: Path, account: Account) -> None:
    """Files of templates deleted on the server stay until they are pruned, and then if changed here."""
    await saved(account, agent(), agent("Sales"), agent("Parcels"))
    await pulled(directory, account)
    write(directory / "parcels.yaml", agent("Parcels", description="Mine."))
    for name in ("Sales", "Parcels"):
        await account.delete(name, 1)
    assert await pulled(directory, account) == {"Sales": "gone", "Parcels": "gone"}
    assert await pulled(directory, account, prune=True) == {"Sales": "removed", "Parcels": "conflict"}
    assert set(files(directory)) == {"billing.yaml", "parcels.yaml"}


async def test_push_saves_the_directory_as_a_set(directory: Path, account: Account) -> None:
    """A push creates and updates templates by name, from YAML and JSON files of one template or more."""
    write(directory / "set.yaml", {"templates": [desk("Billing", "Sales"), agent()]})
    (directory / "sales.json").write_text(dump_text(agent("Sales"), "json"))
    (directory / "talks.yaml").write_text("conversations: []")
    assert await pushed(directory, account) == {
        "Front desk": "created",
        "Billing": "created",
        "Sales": "created",
    }
    (directory / "sales.json").write_text(dump_text(agent("Sales", description="New."), "json"))
    assert await pushed(directory, account) == {
        "Front desk": "unchanged",
        "Billing": "unchanged",
        "Sales": "updated",
    }
    assert await revisions(account) == {"Front desk": 1, "Billing": 1, "Sales": 2}
    await saved(account, agent("Sales", description="Theirs."), agent(description="Theirs."))
    assert await pulled(directory, account) == {"Sales": "written", "Billing": "written"}
    assert '"description": "Theirs."' in (directory / "sales.json").read_text()
    assert await pushed(directory, account) == {
        "Front desk": "unchanged",
        "Billing": "unchanged",
        "Sales": "unchanged",
    }


async def test_push_refuses_to_overwrite_changes_on_the_server(directory: Path, account: Account) -> None:
    """A template saved on the server since is named with who saved it; nothing is pushed without --force."""
    await saved(account, agent(), agent("Sales"))
    await pulled(directory, account)
    await saved(account, agent("Sales", description="Theirs."))
    write(directory / "billing.yaml", agent(description="Mine."))
    write(directory / "sales.yaml", agent("Sales", description="Mine."))
    with pytest.raises(Refused) as caught:
        await push(TemplateDirectory(directory), account, PushOptions())
    [fault] = faults_of(caught.value, TemplateDirectory(directory).sources)
    assert "'Sales' is at revision 2, saved by" in str(fault)
    assert await revisions(account) == {"Billing": 1, "Sales": 2}
    assert await pushed(directory, account, force=True) == {"Billing": "updated", "Sales": "updated"}
    assert await diff_report(TemplateDirectory(directory), account) == []


async def test_push_refuses_a_new_file_for_an_existing_template(directory: Path, account: Account) -> None:
    """A new file with the name of a different template of the account is refused."""
    await saved(account, agent())
    write(directory / "billing.yaml", agent(description="Mine."))
    with pytest.raises(Refused):
        await push(TemplateDirectory(directory), account, PushOptions())
    write(directory / "billing.yaml", agent())
    assert await pushed(directory, account) == {"Billing": "unchanged"}


async def test_push_refuses_an_unchanged_stale_file(directory: Path, account: Account) -> None:
    """A file that is unchanged since the pull does not revert a later save on the server."""
    await saved(account, agent(), agent("Sales"))
    await pulled(directory, account)
    await saved(account, agent("Sales", description="Theirs."))
    write(directory / "billing.yaml", agent(description="Mine."))
    with pytest.raises(Refused):
        await push(TemplateDirectory(directory), account, PushOptions())
    assert await pulled(directory, account) == {"Billing": "kept", "Sales": "written"}
    assert await pushed(directory, account) == {"Billing": "updated", "Sales": "unchanged"}


async def test_push_prunes_templates_deleted_here(directory: Path, account: Account) -> None:
    """--prune deletes templates that were synchronised before, and no others."""
    await saved(account, agent("Theirs"))
    write(directory / "set.yaml", {"templates": [desk("Billing"), agent(), agent("Sales")]})
    await pushed(directory, account)
    write(directory / "set.yaml", {"templates": [agent("Sales")]})
    result = await push(TemplateDirectory(directory), account, PushOptions())
    assert set(result.missing) == {"Front desk", "Billing"}
    dry_run = await push(TemplateDirectory(directory), account, PushOptions(prune=True, dry_run=True))
    assert list(dry_run.deleted) == ["Front desk", "Billing"]
    assert set(await revisions(account)) == {"Theirs", "Front desk", "Billing", "Sales"}
    assert await pushed(directory, account, prune=True) == {
        "Sales": "unchanged", "Front desk": "deleted", "Billing": "deleted"
    }  # fmt: skip
    assert set(await revisions(account)) == {"Theirs", "Sales"}


async def test_push_does_not_prune_changed_templates(directory: Path, account: Account) -> None:
    """A template deleted here but saved on the server since is only deleted with --force."""
    write(directory / "set.yaml", {"templates": [agent(), agent("Sales")]})
    await pushed(directory, account)
    await saved(account, agent(description="Theirs."))
    write(directory / "set.yaml", {"templates": [agent("Sales")]})
    with pytest.raises(Refused, match="'Billing'"):
        await push(TemplateDirectory(directory), account, PushOptions(prune=True))
    assert "Billing" in await revisions(account)
    assert (await pushed(directory, account, prune=True, force=True))["Billing"] == "deleted"


async def test_push_dry_run(directory: Path, account: Account) -> None:
    """A dry run returns what would be done, and changes neither side."""
    write(directory / "billing.yaml", agent())
    assert await pushed(directory, account, dry_run=True) == {"Billing": "created"}
    assert await revisions(account) == {}
    assert not (directory / NAME).exists()


async def test_push_locates_faults_in_files(directory: Path, account: Account) -> None:
    """The account's reasons for a refusal have file, line and pointer, and nothing is saved."""
    write(directory / "a.yaml", {"templates": [agent(), desk("Biling")]})
    write(directory / "b.yaml", agent("Sales", lanugage="en"))
    with pytest.raises(Refused) as caught:
        await push(TemplateDirectory(directory), account, PushOptions())
    report = "\n".join(map(str, faults_of(caught.value, TemplateDirectory(directory).sources)))
    assert f"{directory}/a.yaml:18: /templates/1/routes/0/template: No template" in report
    assert f"{directory}/b.yaml:9: /lanugage: Unknown field" in report
    assert await revisions(account) == {}


async def test_push_of_a_draft_with_faults(directory: Path, account: Account) -> None:
    """A draft with faults is pushed, and the number of faults is returned."""
    write(directory / "later.yaml", {"name": "Later"})
    result: PushResult = await push(TemplateDirectory(directory), account, PushOptions())
    assert [(each.action, each.problems) for each in result.saved] == [("created", 1)]


async def test_push_keeps_masked_secrets(directory: Path, account: Account) -> None:
    """A pulled file has `***` for a secret; pushing `***` keeps the secret, and a text replaces it."""
    function = {
        "type": "http", "name": "find", "description": "Finds.", "url": "https://example.com/",
        "secret_headers": {"Authorization": "Bearer abyss"},
    }  # fmt: skip
    await saved(account, agent(functions=[function]))
    await pulled(directory, account)
    text = (directory / "billing.yaml").read_text()
    assert "abyss" not in text
    (directory / "billing.yaml").write_text(text.replace("Knows", "Asks"))
    assert await pushed(directory, account) == {"Billing": "updated"}
    (directory / "billing.yaml").write_text(text.replace("'***'", "Bearer other"))
    assert await pushed(directory, account) == {"Billing": "updated"}
    assert await pushed(directory, account) == {"Billing": "unchanged"}


async def test_diff(directory: Path, account: Account) -> None:
    """The diff of each template goes from the server to the directory, and ignores the order of members."""
    await saved(account, agent(), agent("Sales"), agent("Parcels"))
    await pulled(directory, account)
    write(directory / "billing.yaml", dict(reversed(agent(description="Mine.").items())))
    (directory / "sales.yaml").unlink()
    write(directory / "new.yaml", agent("New"))
    lines = await diff_report(TemplateDirectory(directory), account)
    assert lines[:2] == ["--- server: Billing", f"+++ {directory}/billing.yaml"]
    changes = [line for line in lines if line[0] in "+-"]
    assert changes[2:4] == ["-description: Knows about Billing.", "+description: Mine."]
    assert ["--- /dev/null", f"+++ {directory}/new.yaml"] == changes[4:6]
    assert "--- server: Sales" in changes
    assert "--- server: Parcels" not in changes


async def test_state_is_separate_for_each_account(
    directory: Path, server: RunningServer, new_tenant: NewTenant, database: Database
) -> None:
    """A directory can be pushed to a second account, with a state of its own."""
    accounts = []
    for _ in range(2):
        tenant: Tenant = await new_tenant()
        accounts.append(DatabaseAccount(database, server.app_state.authoring, tenant.account_id))
    write(directory / "billing.yaml", agent())
    for each in accounts:
        assert await pushed(directory, each) == {"Billing": "created"}
    await saved(accounts[1], agent(description="Theirs."))
    write(directory / "billing.yaml", agent(description="Mine."))
    assert await pushed(directory, accounts[0]) == {"Billing": "updated"}
    with pytest.raises(Refused):
        await push(TemplateDirectory(directory), accounts[1], PushOptions())


def test_state_with_a_path_outside_the_directory_is_refused(directory: Path) -> None:
    """A state file with a path outside the directory is refused as damaged."""
    directory.mkdir()
    (directory / NAME).write_text(
        '{"accounts": {"x": {"a": {"file": "../a.yaml", "revision": 1, "digest": ""}}}}'
    )
    with pytest.raises(BadFiles, match="cannot be read"):
        load(directory)


@pytest.mark.long
@pytest.mark.timeout(300)
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(scene=sample_accounts())
async def test_pull_edit_push_pull_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    server: RunningServer,
    new_tenant: NewTenant,
    database: Database,
    scene: SampleAccount,
) -> None:
    """For any templates, what is pulled, edited and pushed is pulled again unchanged."""
    tenant = await new_tenant()
    account = DatabaseAccount(database, server.app_state.authoring, tenant.account_id)
    names = {key: document["name"] for key, document in scene.documents.items()}
    for document in scene.documents.values():
        document["functions"] = [
            each for each in document["functions"] if each["name"] in HANDLERS or "url" in each
        ]
        for route in document["routes"]:
            route["template"] = names[route.pop("template_id")]
        document["number_id"] = None
    await saved(account, *scene.documents.values())
    directory = tmp_path_factory.mktemp("folder")
    await pulled(directory, account)
    for path in files(directory).values():
        text = path.read_text()
        idle = "idle: {after_ms: 4321}\n"
        path.write_text(text.replace("after_ms: 5000", "after_ms: 4321") if "idle:" in text else text + idle)
    before = texts(directory)
    assert set((await pushed(directory, account)).values()) == {"updated"}
    assert await pulled(directory, account) == {}
    assert texts(directory) == before
    assert await diff_report(TemplateDirectory(directory), account) == []
    again = tmp_path_factory.mktemp("again")
    await pulled(again, account)
    assert {name: yaml.safe_load(text) for name, text in texts(again).items()} == {
        name: yaml.safe_load(text) for name, text in texts(directory).items()
    }
