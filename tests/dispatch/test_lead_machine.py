"""A state machine test of leads, channels and status callbacks: invariants hold in any order of events."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from db import answering_machines, calls, carrier_calls, dispatch, lead_control, notices
from db.calls import CallEnd, CallRecord
from db.lead_states import MOVES
from db.leads import LeadRecord
from db.pool import Database
from telephony.errors import CarrierError
from tests.dispatch.conftest import make_environment
from voicebot.dispatch import cancellation

ResultT = TypeVar("ResultT")
WHICH = st.integers(0, 5)
MAX_ATTEMPTS = 3
CALLS, PER_MS = 2, 600_000
TERMINAL = ("completed", "busy", "no_answer", "failed", "canceled")
STATUSES = st.sampled_from(["queued", "ringing", "in_progress", *TERMINAL])
REASONS = st.sampled_from(["busy", "no_answer", "failed", "hangup", "process_lost", "canceled"])
MOVE = st.sampled_from(
    [lead_control.hold, lead_control.resume, lead_control.dial_now, cancellation.cancel, None]
)
NUMBERS = count(1000)


@pytest.fixture
def runner(dsn: str) -> Iterator[tuple[asyncio.Runner, Database]]:
    """An event loop and a database for all examples."""
    with asyncio.Runner() as opened:
        database = opened.run(Database.connect(dsn))
        yield opened, database
        opened.run(database.close())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_invariants_of_leads(  # noqa: C901 - the machine is its body
    runner: tuple[asyncio.Runner, Database],
) -> None:
    """One live call a lead, limits kept, final states final and reported once, and moves as in the table."""
    loop, database = runner

    class Leads(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            number = next(NUMBERS)
            self.env = self.run(make_environment(database, f"+1415556{number}"))
            self.env.carrier.numbers = count(number * 1000)  # the ids of calls are unique
            self.other = self.env.other()
            self.template = self.run(
                self.env.template(
                    max_attempts=MAX_ATTEMPTS, retry=dict.fromkeys(("busy", "no_answer", "failed"), 60_000),
                    rate_limit={"calls": CALLS, "per_ms": PER_MS}, webhook_url="https://example.com/hook",
                )
            )  # fmt: skip
            # Two of one person.
            self.leads = [self.run(self.env.lead(self.template, f"+1415555020{n // 2}")) for n in range(3)]
            self.before: dict[UUID, LeadRecord] = {}
            self.terminal: dict[UUID, str] = {}

        def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
            return loop.run(work)

        def call(self, which: int) -> CallRecord | None:
            """One of the calls of the leads; the newest are first."""
            found = [call for lead in self.leads for call in reversed(self.run(self.env.calls_of(lead)))]
            return found[which % len(found)] if found else None

        @rule(second=st.booleans())
        def step(self, second: bool) -> None:
            self.run(self.env.step(self.other if second else None))

        @rule(seconds=st.sampled_from([1, 60, 600]))
        def wait(self, seconds: int) -> None:
            self.env.clock.advance(seconds=seconds)

        @rule(which=WHICH, move=MOVE)
        def control(self, which: int, move: Any) -> None:
            if move is not None:
                lead = self.leads[which % len(self.leads)]
                self.run(move(database, self.env.account_id, lead.id, self.env.clock.now()))

        @rule(is_on=st.booleans())
        def stop(self, is_on: bool) -> None:
            change = lead_control.stop if is_on else lead_control.lift_stop
            self.run(change(database, self.env.account_id, self.template, "pause"))

        @rule(uncertain=st.booleans(), places=st.booleans())
        def carrier_fails(self, uncertain: bool, places: bool) -> None:
            if not self.env.carrier.errors:
                self.env.carrier.loses_answers = uncertain and places
                self.env.carrier.errors.append(
                    CarrierError("out of order", status=503, retryable=True, uncertain=uncertain)
                )

        @rule()
        def process_dies_in_a_dial(self) -> None:
            self.env.carrier.dies = True

        @rule()
        def process_dies_with_claims(self) -> None:
            lease = timedelta(seconds=30)
            now = self.env.clock.now()
            self.run(dispatch.claim(database, now=now, lease=lease, limit=9, per_account=9))

        @rule()
        def leases_run_out(self) -> None:
            self.run(self.env.loses_process())

        @rule(which=WHICH)
        def answer(self, which: int) -> None:
            if (call := self.call(which)) is not None:
                self.run(calls.answered(database, self.env.account_id, call.id, self.env.clock.now()))

        @rule(which=WHICH, who=st.sampled_from(["human", "machine"]))
        def detect(self, which: int, who: Any) -> None:
            if (call := self.call(which)) is not None:
                self.run(answering_machines.report_answered_by(database, call.id, who))

        @rule(which=WHICH, reason=REASONS)
        def end(self, which: int, reason: str) -> None:
            if (call := self.call(which)) is None:
                return
            if reason != "process_lost":
                self.env.carrier.live.pop(call.carrier_call_id or "", None)
            end = CallEnd(ended_by="carrier", end_reason=reason, outcome=None, ended_at=self.env.clock.now())
            finished = self.run(calls.finish(database, self.env.account_id, call.id, end))
            if call.status == "ended":
                assert (finished.call.end_reason, finished.call.ended_at) == (call.end_reason, call.ended_at)

        @rule(which=WHICH, status=STATUSES)
        def report(self, which: int, status: Any) -> None:
            call = self.call(which)
            if call is None or call.carrier_call_id is None:
                return
            reported = self.run(
                carrier_calls.carrier_status(database, "twilio", call.carrier_call_id, status)
            )
            if call.carrier_status in TERMINAL:
                assert reported.carrier_status == call.carrier_status
            elif status in TERMINAL:
                assert reported.carrier_status == status

        def teardown(self) -> None:
            self.run(self.end_everything())

        async def end_everything(self) -> None:
            """Leave nothing that the dispatcher of the next example would find."""
            at = self.env.clock.now()
            for lead in self.leads:
                await cancellation.cancel(database, self.env.account_id, lead.id, at)
                for call in await self.env.calls_of(lead):
                    await self.env.ends(call, "failed")
            self.env.carrier.live.clear()
            for _ in range(2):  # calls whose id is unknown are looked for again after a minute
                await self.env.finalise()
                self.env.clock.advance(seconds=61)
            reported = await self.finished_leads()
            assert sorted(reported) == sorted(str(lead.id) for lead in self.leads)

        async def finished_leads(self) -> list[str]:
            """The leads of which a webhook reports the end."""
            page = await notices.list_notices(database, self.env.account_id, limit=200)
            told = [notice.message for notice in page.items]
            return [each["data"]["lead_id"] for each in told if each["type"] == "lead.finished"]

        @invariant()
        def it_all_holds(self) -> None:
            self.run(self.look())

        async def look(self) -> None:
            live = 0
            for old in self.leads:
                lead = await self.env.again(old)
                made = await self.env.calls_of(lead)
                going = [call for call in made if call.status != "ended"]
                live += len(going)
                assert len(going) <= 1
                assert lead.attempts <= MAX_ATTEMPTS
                since = self.env.clock.now().timestamp() - PER_MS / 1000
                placed = [call for call in made if call.end_reason != "not_placed"]
                assert len([call for call in placed if call.started_at.timestamp() > since]) <= CALLS
                before = self.before.get(lead.id)
                if before is not None and before.status != lead.status:
                    assert self.reaches(before.status, lead.status)
                if before is not None and not MOVES[before.status]:  # type: ignore[index]
                    assert (lead.status, lead.outcome) == (before.status, before.outcome)
                self.before[lead.id] = lead
            reported = await self.finished_leads()
            assert len(reported) == len(set(reported))
            assert live <= 2
            ringing = [request.to for request in self.env.carrier.live.values()]
            assert len(ringing) == len(set(ringing))  # no person is called twice at once
            attempts_dialled = [request.answer_url for request in self.env.carrier.dialled]
            assert len(attempts_dialled) == len(set(attempts_dialled))
            assert len(self.env.carrier.dialled) <= sum(
                [len(await self.env.calls_of(lead)) for lead in self.leads]
            )

        @staticmethod
        def reaches(before: Any, after: Any) -> bool:
            """Whether moves of the table lead from one status to another; a step may take several."""
            found, todo = {before}, [before]
            while todo:
                found_next = MOVES[todo.pop()] - found
                found |= found_next
                todo += found_next
            return after in found

    run_state_machine_as_test(
        Leads,
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
