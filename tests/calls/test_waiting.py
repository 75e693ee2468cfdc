"""Callers who wait for a person: what they hear, how they stop waiting, and that they are not hung up on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.api.server_fixture import create
from tests.calls.harness import OPEN, CallHarness, Facts, hear
from voicebot.call.person.waiting import CLAIMED
from voicebot.call.person.waiting_texts import waiting_texts
from voicebot.sandbox.audio.measurement import spans
from voicebot.sandbox.caller import Dtmf, HangUp, Say, Step, Wait, WaitFor, WaitForHangUp

PERSON = "I want a person."
ASKED = "I have asked a colleague."
PROMPT = (
    "You are the desk of Acme. Acme is open from eight to five. If the caller wants a person, call "
    f'escalate_to_person and say "{ASKED}"'
)
LINE = "You are in the queue."
TEXTS = waiting_texts("en")
OFFERS = [{"type": "builtin", "name": "end_call"}, {"type": "builtin", "name": "escalate_to_person"}]
IDLE = {"after_ms": 4000, "prompts": ["Are you there?"], "goodbye": "Goodbye then."}
WAITING = {"line": LINE, "every_ms": 4000, "max_ms": 60_000}


async def desk(harness: CallHarness, **waiting: Any) -> str:
    """Create the number of a desk that offers people and hangs up on silent callers after 8 s."""
    agent = harness.route("billing", await harness.agent())
    more: dict[str, Any] = {
        "waiting": {**WAITING, **waiting},
        "idle": IDLE,
        "functions": OFFERS,
        "prompt": PROMPT,
    }
    return await harness.orchestrator(agent, **more)


async def sign_on(harness: CallHarness, **presence: Any) -> None:
    """Have the account's operator present."""
    answer = await harness.tenant.clients["operator"].put(
        "/operators/me/presence", json={"status": "idle", **presence}
    )
    assert answer.is_success


async def handoffs(harness: CallHarness, call: Facts) -> list[Mapping[str, Any]]:
    """Return the handoffs of a call, oldest first."""
    rows = await harness.server.app_state.database.fetch(
        "SELECT * FROM handoffs WHERE account_id = $1 AND call_id = $2::text::uuid ORDER BY ordinal",
        harness.tenant.account_id,
        call.record["id"],
    )
    return [dict(row) for row in rows]


async def when_open(
    harness: CallHarness, do: Callable[[Mapping[str, Any]], Awaitable[object]], state: str | None = None
) -> None:
    """Do something with the first handoff of the account that is open."""
    async with asyncio.timeout(30):
        while True:
            items = (await harness.api.get("/handoffs")).json()["items"]
            found = [one for one in items if state in (None, one["state"])]
            if found:
                await do(found[0])
                return
            await asyncio.sleep(0.1)


def longest_silence_ms(call: Facts, since_ms: float) -> float:
    """Return the longest time in ms in which neither side sounded, from ``since_ms`` to the hang-up."""
    recording = call.carrier.recording()
    sounds: list[tuple[float, float]] = []
    for samples in (recording.received, recording.sent):
        sounds += [(span.start_ms, span.end_ms) for span in spans(samples, pause_ms=100.0)]
    silence, heard_to = 0.0, since_ms
    for start, end in sorted(sounds):
        if end > since_ms:
            silence = max(silence, start - heard_to)
            heard_to = max(heard_to, end)
    return silence


def starts_of(call: Facts, text: str) -> list[int]:
    """Return when an agent began to say a text, in ms since the answer."""
    return [said["started_ms"] for said in call.transcript if said["text"] == text]


async def waits(harness: CallHarness, number: str, *script: Step) -> Facts:
    """Make a call that asks for a person and then does ``script``."""
    return await harness.place(hear(), Say(text=PERSON), *script, to=number)


@pytest.mark.long
async def test_a_silent_caller_who_waits_is_not_hung_up_on(harness: CallHarness) -> None:
    """No idle prompt and no hang-up: the line at most every `every_ms`, comfort audio in between."""
    await sign_on(harness)
    call = await waits(harness, await desk(harness), Wait(ms=11_000), HangUp())

    assert call.outcome.ok, call.outcome.failure
    assert (call.record["ended_by"], call.record["end_reason"]) == ("caller", "hangup")
    assert call.events("idle.prompted") == []
    assert call.words()[1] == ASKED
    # In 11 s: the third one would come after 3 s and twice `every_ms`. tests/call has the times to the ms.
    assert len(starts_of(call, LINE)) == 2
    assert longest_silence_ms(call, starts_of(call, ASKED)[0]) < 2000
    [handoff] = await handoffs(harness, call)
    assert handoff["state"] in ("queued", "offered", "abandoned")


@pytest.mark.long
async def test_keys_end_the_waiting(harness: CallHarness) -> None:
    """Key 1: it becomes a call-back. Key 2: the caller continues with the agent. Idle rules apply."""
    await sign_on(harness, capacity=5)
    number, both_wait = await desk(harness), asyncio.Event()

    async def follow() -> None:
        async with asyncio.timeout(60):
            while len((await harness.api.get("/handoffs")).json()["items"]) < 2:
                await asyncio.sleep(0.1)
        both_wait.set()

    waiting, leaves = WaitFor(event=both_wait, timeout_ms=60_000), WaitForHangUp(timeout_ms=30_000)
    parked, returned, _ = await asyncio.gather(
        waits(harness, number, waiting, Dtmf(digits="1"), leaves),
        waits(harness, number, waiting, Dtmf(digits="2"), leaves),
        follow(),
    )
    for call, text in ((parked, TEXTS.called_back), (returned, TEXTS.goes_on)):
        assert call.outcome.ok, call.outcome.failure
        assert text in call.words()
        assert call.record["end_reason"] == "idle"
    asked, park = await handoffs(harness, parked)
    assert (asked["state"], asked["cause"]) == ("converted_to_park", "parked")
    assert (park["intent"], park["continues_id"], park["consent"]) == ("park", asked["id"], True)
    assert park["state"] in ("scheduled", "due", "offered")
    [cancelled] = await handoffs(harness, returned)
    assert (cancelled["state"], cancelled["cause"]) == ("cancelled", "caller_returned")


@pytest.mark.long
async def test_the_caller_and_the_agent_learn_of_a_claim(harness: CallHarness) -> None:
    """After a claim the caller is told, the model knows it, and the call's state is active again."""
    await sign_on(harness)
    operator, answers, told = harness.tenant.clients["operator"], [], asyncio.Event()

    async def claim(handoff: Mapping[str, Any]) -> None:
        answers.append((await operator.post(f"/handoffs/{handoff['id']}/claim")).json()["handoff"])
        answers.append((await harness.api.get(f"/calls/{handoff['call_id']}")).json())
        path, heard = f"/calls/{handoff['call_id']}/transcript", False
        while not heard:
            await asyncio.sleep(0.1)
            said = (await harness.api.get(path)).json()["items"]
            heard = any(each["heard_text"] == TEXTS.claimed for each in said)
        told.set()

    call, _ = await asyncio.gather(
        waits(
            harness,
            await desk(harness, every_ms=60_000),
            WaitFor(event=told, timeout_ms=60_000),
            Say(text=OPEN),
            hear(),
            HangUp(),
        ),
        when_open(harness, claim),
    )
    assert call.outcome.ok, call.outcome.failure
    assert (answers[0]["state"], answers[0]["call_state"]) == ("claimed", "active")
    assert answers[1]["handoff_state"] is None
    assert call.words().count(TEXTS.claimed) == 1
    assert harness.asked(containing=CLAIMED)
    assert call.events("idle.prompted") == []
    [handoff] = await handoffs(harness, call)
    assert handoff["state"] == "claimed"


@pytest.mark.long
async def test_the_caller_is_told_that_nobody_is_there_and_does_not_wait_forever(
    harness: CallHarness,
) -> None:
    """Without an operator it is said, and again after `max_ms`; then the agent has the caller again."""
    call = await waits(harness, await desk(harness, max_ms=7000), WaitForHangUp(timeout_ms=40_000))
    assert call.outcome.ok, call.outcome.failure
    assert LINE not in call.words()
    assert TEXTS.nobody in call.words()
    assert call.words()[-2:] == ["Are you there?", "Goodbye then."]
    assert call.record["end_reason"] == "idle"
    [handoff] = await handoffs(harness, call)
    assert (handoff["state"], handoff["cause"]) == ("expired", "wait_over")


@pytest.mark.long
async def test_a_request_of_the_api_lets_the_caller_wait_too(harness: CallHarness) -> None:
    """A handoff that `POST /handoffs` creates for a live call suspends idle prompts; its end ends that."""
    await sign_on(harness)
    number = await desk(harness)
    open_calls: Sequence[Mapping[str, Any]] = []

    async def ask() -> None:
        nonlocal open_calls
        async with asyncio.timeout(30):
            while not (
                open_calls := [
                    one
                    for one in (await harness.api.get("/calls")).json()["items"]
                    if one["status"] == "in_progress"
                ]
            ):
                await asyncio.sleep(0.1)
        body = {"reason": "The caller looks lost.", "call_id": open_calls[0]["id"]}
        handoff = await create(harness.api, "/handoffs", body)
        await asyncio.sleep(7)
        answer = await harness.api.post(f"/handoffs/{handoff['id']}/cancel", json={"reason": "solved"})
        assert answer.json()["state"] == "cancelled"

    call, _ = await asyncio.gather(harness.place(hear(), WaitForHangUp(timeout_ms=40_000), to=number), ask())
    assert call.words()[1] == LINE
    assert call.words()[-3:] == [TEXTS.ended, "Are you there?", "Goodbye then."]
