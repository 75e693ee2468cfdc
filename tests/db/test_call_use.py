"""What costs depend on is read for several calls at once, as it was written."""

from __future__ import annotations

from dataclasses import replace

from db import call_use, calls, events, inbound, leg_changes, model_requests, routes, utterances
from db.call_use import AgentProviders
from db.ids import new_id
from db.legs import LegDraft
from db.model_requests import ModelUse
from db.pool import Database
from tests.db.seed import (
    NOON,
    SeededAccount,
    make_event,
    make_model_request,
    make_route,
    make_utterance,
    webhook,
)


async def test_the_use_of_several_calls(database: Database, seeded: SeededAccount) -> None:
    """Each call has its own records, in their order and with all their values; one without any has none."""
    silent = (await inbound.begin(database, webhook(seeded.number.e164, "CA-silent"))).call
    route, said = make_route(seeded), [make_utterance(seeded, seq=seq) for seq in (1, 2)]
    switch = replace(
        make_event(seeded, seq=2), type="provider.switched",
        data={"part": "stt", "to": "elevenlabs", "more": [1, None, "\u00e9"]},
    )  # fmt: skip
    await routes.complete(database, route)
    for utterance in said[::-1]:
        await utterances.record(database, utterance)
    await events.record(database, make_event(seeded))
    await events.record(database, switch)
    request = make_model_request(seeded)
    await model_requests.append(database, request, same_tools=False)
    other = replace(request, id=new_id(), seq=2, settings={"provider": "openai", "model": "a"})
    await model_requests.append(database, other, same_tools=False)
    leg = await leg_changes.create(
        database,
        LegDraft(
            id=new_id(), account_id=seeded.id, call_id=seeded.call.id, destination="desk", carrier="twilio",
            from_number="+14155550111", to_number="+14155550122", webhooks_url="https://x", deadline=NOON,
            created_at=NOON,
        ),
    )  # fmt: skip
    await calls.keep_revisions(
        database, seeded.id, seeded.call.id, {seeded.front.id: 1, seeded.billing.id: 1}
    )
    content = {**seeded.billing.content, "stt": {"provider": "elevenlabs"}}
    await database.execute(
        "UPDATE template_revisions SET content = $2 WHERE template_id = $1", seeded.billing.id, content
    )
    call = await calls.get(database, seeded.id, seeded.call.id)
    silent = await calls.get(database, seeded.id, silent.id)

    none, use = await call_use.of_calls(database, [silent, call])
    assert (none.call, use.call) == (silent, call)
    recorded = (none.routes, none.switches, none.utterances, none.legs, none.models)
    assert [len(records) for records in recorded] == [0, 0, 0, 0, 0]
    assert {agent.template_id: agent for agent in use.agents} == {
        seeded.front.id: AgentProviders(template_id=seeded.front.id),
        seeded.billing.id: AgentProviders(template_id=seeded.billing.id, stt="elevenlabs"),
    }
    assert (use.routes, use.switches, use.utterances, use.legs) == ([route], [switch], said, [leg])
    assert request.tokens is not None
    prompt, cached, completion = (request.tokens[name] for name in ("prompt", "cached", "completion"))
    assert use.models == [
        ModelUse(
            provider="openai", model=model, prompt=prompt, cached=cached, completion=completion,
            cost_usd=request.cost_usd,
        )
        for model in ("a", "gpt-4.1-mini")
    ]  # fmt: skip
