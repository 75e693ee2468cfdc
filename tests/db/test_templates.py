import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from db import revisions, template_targets, templates
from db.errors import (
    BadCursor,
    NameTaken,
    NotFound,
    OrchestratorExists,
    RevisionConflict,
    TargetsUnavailable,
    TemplateInUse,
)
from db.pool import Database
from db.templates import TemplateFilter, TemplateRecord
from tests.db.seed import SeededAccount, draft


@pytest.fixture
def database(module_database: Database) -> Database:
    """The tests look at their own account only."""
    return module_database


async def names(database: Database, seeded: SeededAccount, where: TemplateFilter) -> set[str]:
    page = await templates.list_templates(database, seeded.id, where, limit=200)
    return {template.name for template in page.items}


async def test_a_template_comes_back_as_it_was_saved(database: Database, seeded: SeededAccount) -> None:
    """What create returns, get and by_name return."""
    saved = await templates.create(database, seeded.id, draft("shipping", status="draft"))

    assert saved.revision == 1
    assert saved.content == {"name": "shipping", "prompt": "You are shipping."}
    assert await templates.get(database, seeded.id, saved.id) == saved
    assert await templates.by_name(database, seeded.id, "shipping") == saved


async def test_a_document_keeps_its_authors_order(database: Database, seeded: SeededAccount) -> None:
    """Nodes come back in the order they were written in, from the template and from its revision."""
    nodes: dict[str, Any] = {name: {"task_messages": []} for name in ("welcome", "ask", "zone", "bye", "b")}
    document = replace(
        draft("ordered", status="draft"), content={"flow": {"nodes": nodes, "initial_node": "ask"}}
    )
    saved = await templates.create(database, seeded.id, document)

    kept = await revisions.get(database, seeded.id, saved.id, 1)
    for content in (
        saved.content,
        (await templates.get(database, seeded.id, saved.id)).content,
        kept.content,
    ):
        assert list(content["flow"]) == ["nodes", "initial_node"]
        assert list(content["flow"]["nodes"]) == ["welcome", "ask", "zone", "bye", "b"]


async def test_a_name_is_unique_in_the_account(database: Database, seeded: SeededAccount) -> None:
    """A second template of a name is refused, on create and on update, and a deleted one's name is free."""
    other = await templates.create(database, seeded.id, draft("other"))

    with pytest.raises(NameTaken):
        await templates.create(database, seeded.id, draft("billing"))
    with pytest.raises(NameTaken):
        await templates.update(database, seeded.id, other.id, draft("billing"), expected_revision=1)
    await templates.delete(database, seeded.id, other.id, expected_revision=1)
    await templates.create(database, seeded.id, draft("other"))


async def test_an_update_wants_the_revision_it_read(database: Database, seeded: SeededAccount) -> None:
    """A stale update changes nothing; the error contains the current revision."""
    second = await templates.update(
        database, seeded.id, seeded.billing.id, draft("billing"), expected_revision=1
    )

    with pytest.raises(RevisionConflict) as caught:
        await templates.update(database, seeded.id, seeded.billing.id, draft("late"), expected_revision=1)
    assert caught.value.current == 2
    assert await templates.get(database, seeded.id, seeded.billing.id) == second


async def test_one_of_many_updates_of_a_revision_wins(database: Database, seeded: SeededAccount) -> None:
    """Eight authors save the same revision at once: one succeeds, seven conflict."""
    results = await asyncio.gather(
        *(
            templates.update(
                database, seeded.id, seeded.billing.id, draft(f"billing {n}"), expected_revision=1
            )
            for n in range(8)
        ),
        return_exceptions=True,
    )

    assert sorted(type(result).__name__ for result in results) == ["RevisionConflict"] * 7 + [
        "TemplateRecord"
    ]


async def test_a_second_orchestrator_is_refused_with_the_first_ones_name(
    database: Database, seeded: SeededAccount
) -> None:
    """The refusal names the orchestrator that answers the number; drafts and agents are welcome."""
    rival = draft("rival", kind="orchestrator", number_id=seeded.number.id)

    with pytest.raises(OrchestratorExists) as caught:
        await templates.create(database, seeded.id, rival)
    assert (caught.value.conflicting_template_id, caught.value.name) == (seeded.front.id, "front desk")
    waiting = await templates.create(database, seeded.id, replace(rival, status="draft"))
    with pytest.raises(OrchestratorExists):
        await templates.update(database, seeded.id, waiting.id, rival, expected_revision=1)
    await templates.create(database, seeded.id, draft("agent", number_id=seeded.number.id))


async def test_an_error_inside_a_transaction_leaves_it_usable(
    database: Database, seeded: SeededAccount
) -> None:
    """A refused save within a larger transaction undoes only itself."""
    async with database.transaction() as transaction:
        kept = await templates.create(transaction, seeded.id, draft("kept"))
        with pytest.raises(OrchestratorExists):
            await templates.create(
                transaction, seeded.id, draft("rival", kind="orchestrator", number_id=seeded.number.id)
            )

    assert await templates.get(database, seeded.id, kept.id) == kept


@pytest.mark.parametrize(
    "change", [{"status": "draft"}, {"kind": "orchestrator"}, {"status": "draft", "kind": "orchestrator"}]
)
async def test_a_target_of_an_active_orchestrator_stays_one(
    database: Database, seeded: SeededAccount, change: dict[str, str]
) -> None:
    """It can be neither deactivated, nor made an orchestrator, nor deleted; its content can be changed."""
    changed = replace(draft("billing"), **change)  # type: ignore[arg-type]

    with pytest.raises(TemplateInUse) as caught:
        await templates.update(database, seeded.id, seeded.billing.id, changed, expected_revision=1)
    assert caught.value.template_ids == (seeded.front.id,)
    with pytest.raises(TemplateInUse):
        await templates.delete(database, seeded.id, seeded.billing.id, expected_revision=1)
    await templates.update(database, seeded.id, seeded.billing.id, draft("billing"), expected_revision=1)


async def test_a_target_is_free_when_nobody_active_routes_to_it(
    database: Database, seeded: SeededAccount
) -> None:
    """Once the orchestrator is a draft or routes elsewhere, its target can be taken out of use."""
    front = draft(
        "front desk",
        kind="orchestrator",
        status="draft",
        number_id=seeded.number.id,
        references=[seeded.billing.id],
    )
    await templates.update(database, seeded.id, seeded.front.id, front, expected_revision=1)
    assert await template_targets.used_by(database, seeded.id, seeded.billing.id) == [seeded.front.id]

    await templates.delete(database, seeded.id, seeded.billing.id, expected_revision=1)
    with pytest.raises(NotFound):
        await templates.get(database, seeded.id, seeded.billing.id)


async def test_an_active_template_needs_active_targets(database: Database, seeded: SeededAccount) -> None:
    """Drafts, orchestrators and ids that do not exist are named as unavailable; a draft may name them."""
    asleep = await templates.create(database, seeded.id, draft("asleep", status="draft"))
    wanted = [seeded.billing.id, asleep.id, seeded.front.id, uuid4()]

    with pytest.raises(TargetsUnavailable) as caught:
        await templates.create(
            database, seeded.id, draft("second desk", kind="orchestrator", references=wanted)
        )
    assert set(caught.value.template_ids) == set(wanted[1:])
    desk = draft("second desk", kind="orchestrator", status="draft", references=wanted)
    saved = await templates.create(database, seeded.id, desk)
    assert saved.status == "draft"


async def test_activation_and_deactivation_of_its_target_cannot_both_win(
    database: Database, seeded: SeededAccount
) -> None:
    """An orchestrator is activated while its target is deactivated: one of them is refused, every time."""
    for n in range(20):
        target = await templates.create(database, seeded.id, draft(f"target {n}"))
        desk = draft(f"desk {n}", kind="orchestrator", references=[target.id])
        outcomes = await asyncio.gather(
            templates.create(database, seeded.id, desk),
            templates.update(
                database, seeded.id, target.id, draft(f"target {n}", status="draft"), expected_revision=1
            ),
            return_exceptions=True,
        )

        refused = [outcome for outcome in outcomes if not isinstance(outcome, TemplateRecord)]
        assert len(refused) == 1, outcomes
        assert isinstance(refused[0], (TargetsUnavailable, TemplateInUse))


async def test_a_template_needs_a_number_of_its_account(database: Database, seeded: SeededAccount) -> None:
    """A number that does not exist is named."""
    with pytest.raises(NotFound, match="number"):
        await templates.create(database, seeded.id, draft("lost", number_id=uuid4()))


async def test_lists_are_newest_first_and_paged(database: Database, seeded: SeededAccount) -> None:
    """Walking the pages gives every template once, newest first, though some are added meanwhile."""
    made = [(await templates.create(database, seeded.id, draft(f"t{n}"))).id for n in range(7)]
    everything = [*reversed(made), seeded.front.id, seeded.billing.id]
    seen, cursor = [], None
    while True:
        page = await templates.list_templates(database, seeded.id, TemplateFilter(), limit=3, cursor=cursor)
        seen += [template.id for template in page.items]
        await templates.create(database, seeded.id, draft(f"added after {len(seen)}"))
        if page.next_cursor is None:
            break
        cursor = page.next_cursor

    assert seen == everything


async def test_lists_can_be_narrowed(database: Database, seeded: SeededAccount) -> None:
    """Kind, status, number and a part of the name narrow a list, alone and together."""
    await templates.create(database, seeded.id, draft("Night Desk", kind="orchestrator", status="draft"))
    await templates.create(database, seeded.id, draft("100% desk_fan", status="draft"))

    assert await names(database, seeded, TemplateFilter(kind="orchestrator")) == {"front desk", "Night Desk"}
    assert await names(database, seeded, TemplateFilter(status="active")) == {"front desk", "billing"}
    assert await names(database, seeded, TemplateFilter(number_id=seeded.number.id)) == {"front desk"}
    assert await names(database, seeded, TemplateFilter(name_contains="DESK")) == {
        "front desk",
        "Night Desk",
        "100% desk_fan",
    }
    assert await names(database, seeded, TemplateFilter(name_contains="%")) == {"100% desk_fan"}
    assert await names(
        database, seeded, TemplateFilter(name_contains="desk", kind="agent", status="draft")
    ) == {"100% desk_fan"}


@pytest.mark.parametrize("cursor", ["", "!!!", "bm90IGFuIGlk", "1234", "\ud800"])
async def test_a_cursor_that_is_not_ours_is_refused(
    database: Database, seeded: SeededAccount, cursor: str
) -> None:
    """Nonsense in the place of a cursor is named, not guessed at."""
    with pytest.raises(BadCursor):
        await templates.list_templates(database, seeded.id, TemplateFilter(), limit=3, cursor=cursor)


async def test_every_save_is_a_revision(database: Database, seeded: SeededAccount) -> None:
    """A template's revisions are listed newest first with who saved them and what changed."""
    second = replace(draft("accounts"), changed=["name"], saved_by=seeded.key.record.id)
    await templates.update(database, seeded.id, seeded.billing.id, second, expected_revision=1)

    page = await revisions.list_revisions(database, seeded.id, seeded.billing.id, limit=1)
    assert [(r.revision, r.name, r.changed, r.saved_by) for r in page.items] == [
        (2, "accounts", ["name"], seeded.key.record.id)
    ]
    rest = await revisions.list_revisions(
        database, seeded.id, seeded.billing.id, limit=1, cursor=page.next_cursor
    )
    assert [(r.revision, r.name) for r in rest.items] == [(1, "billing")]
    assert rest.next_cursor is None
    assert (await revisions.get(database, seeded.id, seeded.billing.id, 1)).content == seeded.billing.content


async def test_a_call_keeps_the_revisions_it_began_with(database: Database, seeded: SeededAccount) -> None:
    """A kept revision is found after a save and after a deletion; without one, the newest is."""
    fresh = await templates.create(database, seeded.id, draft("fresh"))
    await templates.update(database, seeded.id, fresh.id, draft("fresher"), expected_revision=1)

    kept = await revisions.for_call(database, seeded.id, fresh.id, 1)
    newest = await revisions.for_call(database, seeded.id, fresh.id)
    assert (kept.name, kept.revision, newest.name, newest.revision) == ("fresh", 1, "fresher", 2)

    await templates.delete(database, seeded.id, fresh.id, expected_revision=2)
    gone = await revisions.for_call(database, seeded.id, fresh.id, 1)
    assert (gone.name, gone.status, gone.content) == ("fresh", "draft", kept.content)
    with pytest.raises(NotFound):
        await revisions.for_call(database, seeded.id, fresh.id)


async def test_several_templates_are_fetched_at_once(database: Database, seeded: SeededAccount) -> None:
    """Targets come by id, each at its kept revision or its newest, and unknown ids are left out."""
    await templates.update(database, seeded.id, seeded.billing.id, draft("accounts"), expected_revision=1)
    unknown = uuid4()

    found = await revisions.targets(
        database, seeded.id, [seeded.billing.id, seeded.front.id, unknown], {seeded.billing.id: 1}
    )

    assert {id: (t.name, t.revision) for id, t in found.items()} == {
        seeded.billing.id: ("billing", 1),
        seeded.front.id: ("front desk", 1),
    }
