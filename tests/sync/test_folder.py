"""Pulling, pushing and comparing: nobody's work is lost, on neither side."""

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
from voicebot.sync.diff import compare
from voicebot.sync.pull import Pull, pull
from voicebot.sync.push import Push, Pushed, faults_of, push
from voicebot.sync.state_file import NAME, load
from voicebot.sync.working_folder import WorkingFolder

HEADER = "# yaml-language-server: $schema=.schema.json\n"


async def pulled(place: Path, account: Account, **how: bool) -> dict[str, str]:
    """Pull, and tell what was done to each template."""
    return dict((await pull(WorkingFolder(place), account, Pull(**how), file_schema())).steps)


async def pushed(place: Path, account: Account, **how: bool) -> dict[str, str]:
    """Push, and tell what was done to each template."""
    done = await push(WorkingFolder(place), account, Push(**how))
    return {each.name: each.action for each in done.done} | dict.fromkeys(done.deleted, "deleted")


async def saved(account: Account, *documents: dict[str, Any]) -> None:
    """Somebody else saves."""
    await account.save(documents, {}, dry_run=False)


async def revisions(account: Account) -> dict[str, int]:
    """What the account has."""
    return {each.name: each.revision for each in await account.templates()}


def write(path: Path, document: Any) -> None:
    """Somebody writes a file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump_text(document))


def files(place: Path) -> dict[str, Path]:
    """The template files of a folder, by name."""
    return {each.name: each for each in place.glob("*.yaml")}


def texts(place: Path) -> dict[str, str]:
    """What stands in them."""
    return {name: path.read_text() for name, path in files(place).items()}


def everything(place: Path) -> set[str]:
    """All files of a folder."""
    return {each.name for each in place.iterdir()}


def read(path: Path) -> Any:
    """What a file says to any reader of YAML."""
    return yaml.safe_load(path.read_text())


async def test_each_template_is_a_file(place: Path, account: Account) -> None:
    """A pull writes a file for each template, called by its name, with names for ids; and a schema."""
    await saved(
        account, desk("Billing & Co", "Zahlungen für Öl"), agent("Billing & Co"), agent("Zahlungen für Öl")
    )
    assert set((await pulled(place, account)).values()) == {"written"}
    assert everything(place) == {
        NAME, ".schema.json", "front-desk.yaml", "billing-co.yaml", "zahlungen-fur-ol.yaml"
    }  # fmt: skip
    text = (place / "front-desk.yaml").read_text()
    assert text.startswith(HEADER + "name: Front desk\nkind: orchestrator\n")
    assert read(place / "front-desk.yaml") == desk("Billing & Co", "Zahlungen für Öl")
    assert await pulled(place, account) == {}
    assert await compare(WorkingFolder(place), account) == []


async def test_names_that_look_alike_have_files_of_their_own(place: Path, account: Account) -> None:
    """Two names that make one file name make two, and each keeps its own."""
    await saved(account, agent("Billing"), agent("billing!"), agent("料金"))
    await pulled(place, account)
    assert {read(each)["name"] for each in files(place).values()} == {"Billing", "billing!", "料金"}
    await saved(account, agent("billing!", description="New."))
    assert await pulled(place, account) == {"billing!": "written"}
    assert {read(each)["name"] for each in files(place).values()} == {"Billing", "billing!", "料金"}


async def test_what_people_write_around_a_template_survives(place: Path, account: Account) -> None:
    """A file that says what the server has is not touched: comments, layout and order stay."""
    await saved(account, agent())
    await pulled(place, account)
    path = place / "billing.yaml"
    text = (
        "# mine\n" + path.read_text().replace("status: active\n", "") + "\nstatus: active # now\nidle: {}\n"
    )
    path.write_text(text)
    assert await pulled(place, account) == {}
    assert path.read_text() == text
    assert await pushed(place, account) == {"Billing": "unchanged"}
    await saved(account, agent(description="New."))
    assert await pulled(place, account) == {"Billing": "written"}
    assert path.read_text().startswith("# mine\n" + HEADER + "name: Billing\n")
    assert read(path)["description"] == "New."


async def test_what_was_changed_here_is_not_overwritten(place: Path, account: Account) -> None:
    """A change here is kept; one on both sides is left to be decided, or taken from the server by force."""
    await saved(account, agent(), agent("Sales"))
    await pulled(place, account)
    write(place / "billing.yaml", agent(description="Mine."))
    assert await pulled(place, account) == {"Billing": "kept"}
    await saved(account, agent(description="Theirs."), agent("Sales", description="Theirs."))
    assert await pulled(place, account) == {"Billing": "clash", "Sales": "written"}
    assert read(place / "billing.yaml")["description"] == "Mine."
    assert await pulled(place, account, force=True) == {"Billing": "written"}
    assert read(place / "billing.yaml")["description"] == "Theirs."


async def test_a_folder_that_was_never_pulled_to(place: Path, account: Account) -> None:
    """Files that are there already are not overwritten; those that say the same are known from then on."""
    await saved(account, agent(), agent("Sales"))
    write(place / "one.yaml", {"templates": [agent(), agent("Sales", description="Mine.")]})
    assert await pulled(place, account) == {"Sales": "clash"}
    assert set(files(place)) == {"one.yaml"}
    await saved(account, agent(description="New."))
    assert await pulled(place, account) == {"Billing": "written", "Sales": "clash"}
    assert [each["description"] for each in read(place / "one.yaml")["templates"]] == ["New.", "Mine."]


async def test_what_was_deleted_here_stays_deleted(place: Path, account: Account) -> None:
    """A pull does not write a file again that somebody removed, unless it is made to."""
    await saved(account, agent(), agent("Sales"))
    await pulled(place, account)
    (place / "sales.yaml").unlink()
    assert await pulled(place, account) == {"Sales": "missing"}
    assert not (place / "sales.yaml").exists()
    assert await pulled(place, account, force=True) == {"Sales": "written"}
    assert read(place / "sales.yaml")["name"] == "Sales"


async def test_what_the_server_has_no_longer(place: Path, account: Account) -> None:
    """Files of templates that are gone stay until they are pruned; one that was changed stays even then."""
    await saved(account, agent(), agent("Sales"), agent("Parcels"))
    await pulled(place, account)
    write(place / "parcels.yaml", agent("Parcels", description="Mine."))
    for name in ("Sales", "Parcels"):
        await account.delete(name, 1)
    assert await pulled(place, account) == {"Sales": "gone", "Parcels": "gone"}
    assert await pulled(place, account, prune=True) == {"Sales": "removed", "Parcels": "clash"}
    assert set(files(place)) == {"billing.yaml", "parcels.yaml"}


async def test_a_folder_is_saved_as_a_set(place: Path, account: Account) -> None:
    """A push makes and changes templates by name, files of many and of one, YAML and JSON alike."""
    write(place / "set.yaml", {"templates": [desk("Billing", "Sales"), agent()]})
    (place / "sales.json").write_text(dump_text(agent("Sales"), "json"))
    (place / "talks.yaml").write_text("conversations: []")
    assert await pushed(place, account) == {"Front desk": "created", "Billing": "created", "Sales": "created"}
    (place / "sales.json").write_text(dump_text(agent("Sales", description="New."), "json"))
    assert await pushed(place, account) == {
        "Front desk": "unchanged",
        "Billing": "unchanged",
        "Sales": "updated",
    }
    assert await revisions(account) == {"Front desk": 1, "Billing": 1, "Sales": 2}
    await saved(account, agent("Sales", description="Theirs."), agent(description="Theirs."))
    assert await pulled(place, account) == {"Sales": "written", "Billing": "written"}
    assert '"description": "Theirs."' in (place / "sales.json").read_text()
    assert await pushed(place, account) == {
        "Front desk": "unchanged",
        "Billing": "unchanged",
        "Sales": "unchanged",
    }


async def test_nobody_s_work_on_the_server_is_overwritten(place: Path, account: Account) -> None:
    """What was saved on the server since is named, with who saved it, and nothing is pushed but by force."""
    await saved(account, agent(), agent("Sales"))
    await pulled(place, account)
    await saved(account, agent("Sales", description="Theirs."))
    write(place / "billing.yaml", agent(description="Mine."))
    write(place / "sales.yaml", agent("Sales", description="Mine."))
    with pytest.raises(Refused) as caught:
        await push(WorkingFolder(place), account, Push())
    [told] = faults_of(caught.value, WorkingFolder(place).written)
    assert "'Sales' is at revision 2, saved by" in str(told)
    assert await revisions(account) == {"Billing": 1, "Sales": 2}
    assert await pushed(place, account, force=True) == {"Billing": "updated", "Sales": "updated"}
    assert await compare(WorkingFolder(place), account) == []


async def test_a_template_that_others_made_is_not_overwritten(place: Path, account: Account) -> None:
    """A new file of a name that the account has, with something else in it, is refused."""
    await saved(account, agent())
    write(place / "billing.yaml", agent(description="Mine."))
    with pytest.raises(Refused):
        await push(WorkingFolder(place), account, Push())
    write(place / "billing.yaml", agent())
    assert await pushed(place, account) == {"Billing": "unchanged"}


async def test_a_stale_copy_of_what_nobody_changed_here(place: Path, account: Account) -> None:
    """A file that was not changed since it was pulled does not undo what was saved on the server since."""
    await saved(account, agent(), agent("Sales"))
    await pulled(place, account)
    await saved(account, agent("Sales", description="Theirs."))
    write(place / "billing.yaml", agent(description="Mine."))
    with pytest.raises(Refused):
        await push(WorkingFolder(place), account, Push())
    assert await pulled(place, account) == {"Billing": "kept", "Sales": "written"}
    assert await pushed(place, account) == {"Billing": "updated", "Sales": "unchanged"}


async def test_what_is_gone_here_is_deleted_when_told(place: Path, account: Account) -> None:
    """What was once pulled or pushed is deleted, with --prune alone; what never was here never is."""
    await saved(account, agent("Theirs"))
    write(place / "set.yaml", {"templates": [desk("Billing"), agent(), agent("Sales")]})
    await pushed(place, account)
    write(place / "set.yaml", {"templates": [agent("Sales")]})
    left = await push(WorkingFolder(place), account, Push())
    assert set(left.left) == {"Front desk", "Billing"}
    trial = await push(WorkingFolder(place), account, Push(prune=True, dry_run=True))
    assert list(trial.deleted) == ["Front desk", "Billing"]
    assert set(await revisions(account)) == {"Theirs", "Front desk", "Billing", "Sales"}
    assert await pushed(place, account, prune=True) == {
        "Sales": "unchanged", "Front desk": "deleted", "Billing": "deleted"
    }  # fmt: skip
    assert set(await revisions(account)) == {"Theirs", "Sales"}


async def test_what_others_changed_is_not_pruned(place: Path, account: Account) -> None:
    """A template that is gone here but was saved on the server since is not deleted, but by force."""
    write(place / "set.yaml", {"templates": [agent(), agent("Sales")]})
    await pushed(place, account)
    await saved(account, agent(description="Theirs."))
    write(place / "set.yaml", {"templates": [agent("Sales")]})
    with pytest.raises(Refused, match="'Billing'"):
        await push(WorkingFolder(place), account, Push(prune=True))
    assert "Billing" in await revisions(account)
    assert (await pushed(place, account, prune=True, force=True))["Billing"] == "deleted"


async def test_a_push_can_be_tried(place: Path, account: Account) -> None:
    """A dry run tells what would be done, and changes neither side."""
    write(place / "billing.yaml", agent())
    assert await pushed(place, account, dry_run=True) == {"Billing": "created"}
    assert await revisions(account) == {}
    assert not (place / NAME).exists()


async def test_faults_are_told_where_they_stand(place: Path, account: Account) -> None:
    """What the account has against a set is told by file, line and place, and nothing is saved."""
    write(place / "a.yaml", {"templates": [agent(), desk("Biling")]})
    write(place / "b.yaml", agent("Sales", lanugage="en"))
    with pytest.raises(Refused) as caught:
        await push(WorkingFolder(place), account, Push())
    told = "\n".join(map(str, faults_of(caught.value, WorkingFolder(place).written)))
    assert f"{place}/a.yaml:18: /templates/1/routes/0/template: No template" in told
    assert f"{place}/b.yaml:9: /lanugage: Unknown field" in told
    assert await revisions(account) == {}


async def test_drafts_may_be_half_done(place: Path, account: Account) -> None:
    """A draft with faults is pushed, and it is told how many it has."""
    write(place / "later.yaml", {"name": "Later"})
    done: Pushed = await push(WorkingFolder(place), account, Push())
    assert [(each.action, each.problems) for each in done.done] == [("created", 1)]


async def test_secrets_stay_on_the_server(place: Path, account: Account) -> None:
    """A pulled file has `***` for a secret; pushed again it keeps the secret, and written out changes it."""
    function = {
        "type": "http", "name": "find", "description": "Finds.", "url": "https://example.com/",
        "secret_headers": {"Authorization": "Bearer abyss"},
    }  # fmt: skip
    await saved(account, agent(functions=[function]))
    await pulled(place, account)
    text = (place / "billing.yaml").read_text()
    assert "abyss" not in text
    (place / "billing.yaml").write_text(text.replace("Knows", "Asks"))
    assert await pushed(place, account) == {"Billing": "updated"}
    (place / "billing.yaml").write_text(text.replace("'***'", "Bearer other"))
    assert await pushed(place, account) == {"Billing": "updated"}
    assert await pushed(place, account) == {"Billing": "unchanged"}


async def test_differences_are_shown(place: Path, account: Account) -> None:
    """Each template that differs is shown, from the server's to the folder's; its order says nothing."""
    await saved(account, agent(), agent("Sales"), agent("Parcels"))
    await pulled(place, account)
    write(place / "billing.yaml", dict(reversed(agent(description="Mine.").items())))
    (place / "sales.yaml").unlink()
    write(place / "new.yaml", agent("New"))
    lines = await compare(WorkingFolder(place), account)
    assert lines[:2] == ["--- server: Billing", f"+++ {place}/billing.yaml"]
    changes = [line for line in lines if line[0] in "+-"]
    assert changes[2:4] == ["-description: Knows about Billing.", "+description: Mine."]
    assert ["--- /dev/null", f"+++ {place}/new.yaml"] == changes[4:6]
    assert "--- server: Sales" in changes
    assert "--- server: Parcels" not in changes


async def test_what_is_remembered_of_one_account_says_nothing_of_another(
    place: Path, server: RunningServer, new_tenant: NewTenant, database: Database
) -> None:
    """A folder can be pushed to a second account, which is not mistaken for the first."""
    accounts = []
    for _ in range(2):
        tenant: Tenant = await new_tenant()
        accounts.append(DatabaseAccount(database, server.app_state.authoring, tenant.account_id))
    write(place / "billing.yaml", agent())
    for each in accounts:
        assert await pushed(place, each) == {"Billing": "created"}
    await saved(accounts[1], agent(description="Theirs."))
    write(place / "billing.yaml", agent(description="Mine."))
    assert await pushed(place, accounts[0]) == {"Billing": "updated"}
    with pytest.raises(Refused):
        await push(WorkingFolder(place), accounts[1], Push())


def test_records_name_no_file_elsewhere(place: Path) -> None:
    """A record that leads out of the folder is damage: nothing is written by it."""
    place.mkdir()
    (place / NAME).write_text(
        '{"accounts": {"x": {"a": {"file": "../a.yaml", "revision": 1, "digest": ""}}}}'
    )
    with pytest.raises(BadFiles, match="cannot be read"):
        load(place)


@pytest.mark.long
@pytest.mark.timeout(200)
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
async def test_pull_edit_push_pull_ends_where_it_began(
    tmp_path_factory: pytest.TempPathFactory,
    server: RunningServer,
    new_tenant: NewTenant,
    database: Database,
    scene: SampleAccount,
) -> None:
    """Whatever the templates: what was pulled, edited and pushed is what is pulled again."""
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
    place = tmp_path_factory.mktemp("folder")
    await pulled(place, account)
    for path in files(place).values():
        text = path.read_text()
        idle = "idle: {after_ms: 4321}\n"
        path.write_text(text.replace("after_ms: 5000", "after_ms: 4321") if "idle:" in text else text + idle)
    before = texts(place)
    assert set((await pushed(place, account)).values()) == {"updated"}
    assert await pulled(place, account) == {}
    assert texts(place) == before
    assert await compare(WorkingFolder(place), account) == []
    again = tmp_path_factory.mktemp("again")
    await pulled(again, account)
    assert {name: yaml.safe_load(text) for name, text in texts(again).items()} == {
        name: yaml.safe_load(text) for name, text in texts(place).items()
    }
