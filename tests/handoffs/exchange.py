"""A scripted carrier with virtual time, and an account with a caller and an operator whom it can call.

What the carrier reports waits in `pending` until a test delivers it, so that reports may come in any order,
more than once, or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from db import calls, handoffs, legs, users
from db.calls import CallEnd, CallRecord
from db.handoffs import HandoffRecord
from db.ids import new_id
from db.legs import LegRecord
from db.pool import Database
from telephony.bridge import AnsweredBy, BridgeCarrier, ConferenceJoin, Party, Whisper
from telephony.carrier import DialRequest
from telephony.errors import CallIsOver, CarrierError
from telephony.webhook import CallStatus, EndReason, WebhookReply
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.background import BackgroundTasks
from voicebot.handoffs.bridge import Bridge
from voicebot.handoffs.leg_ends import LegEnds
from voicebot.handoffs.leg_reports import SWEEP_S, LegReports

ORIGIN = "https://bot.example.com"
PHONE = "+14155550177"

Report = Callable[[], Awaitable[None]]


class Killed(Exception):
    """The process died at this place."""


@dataclass(slots=True, kw_only=True)
class Line:
    """One telephone call at the carrier."""

    sid: str
    party: Party
    place: str = "ringing"
    """ringing, answered, whisper, room, coming_back, agent, or over."""
    leg_id: UUID | None = None
    room: str | None = None
    over_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        """Whether the call has not ended."""
        return self.place != "over"


def refusal(*, uncertain: bool = False) -> CarrierError:
    """A refusal of the carrier's REST API."""
    return CarrierError("refused", status=0 if uncertain else 400, uncertain=uncertain)


def over() -> CallIsOver:
    """The refusal of a request for a call that has ended."""
    return CallIsOver(CarrierError("the call is not in progress", status=400, code="21220"))


class Exchange:
    """The carrier, seen by the server as a `BridgeCarrier`."""

    webhooks_path = "/webhooks/twilio"

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.lines: dict[str, Line] = {}
        self.rooms: dict[str, list[Line]] = defaultdict(list)
        self.pending: list[tuple[str, Report]] = []
        self.faults: list[tuple[str, Exception, bool]] = []
        """(request, error, whether the request is carried out first); each applies once."""
        self.redirects: list[str] = []
        self.world: World | None = None

    # ----------------------------------------------------------------------- the carrier's REST API

    def _fault(self, request: str, *, done: bool) -> None:
        for fault in self.faults:
            if fault[0] == request and fault[2] is done:
                self.faults.remove(fault)
                raise fault[1]

    async def dial(self, request: DialRequest) -> str:
        """Place a call to the operator."""
        self._fault("dial", done=False)
        leg_id = UUID(parse_qs(urlsplit(request.status_url).query)["leg"][0])
        line = Line(sid=f"CA{new_id().hex}", party="operator", leg_id=leg_id)
        self.lines[line.sid] = line
        self._status(line, "ringing", "initiated")
        self._status(line, "ringing", "ringing")
        self._fault("dial", done=True)
        return line.sid

    async def hang_up(self, sid: str) -> None:
        """End a call."""
        self._fault("hang_up", done=False)
        line = self.lines.get(sid)
        if line is not None:
            self.end(line, "completed" if line.place != "ringing" else "canceled")
        self._fault("hang_up", done=True)

    async def join(self, sid: str, join: ConferenceJoin) -> None:
        """Lead a live call into a conference."""
        self._fault("join", done=False)
        line = self.lines[sid]
        if not line.is_live:
            raise over()
        self.enter(line, join.name)
        self._fault("join", done=True)

    async def redirect(self, sid: str, url: str) -> None:
        """Have a live call ask for new instructions."""
        self._fault("redirect", done=False)
        self.redirects.append(url)
        line = self.lines[sid]
        if not line.is_live:
            raise over()
        self._leave(line)
        self._come_back(line)
        self._fault("redirect", done=True)

    async def is_live(self, sid: str) -> bool:
        """Whether a call has not ended."""
        self._fault("is_live", done=False)
        return sid in self.lines and self.lines[sid].is_live  # like a carrier, which forgets old calls

    async def find_calls(self, *, from_: str, to: str, since: datetime) -> Sequence[str]:
        """Live calls to the operator."""
        return [line.sid for line in self.lines.values() if line.party == "operator" and line.is_live]

    def hang_up_reply(self) -> WebhookReply:
        """End the call."""
        return WebhookReply(status=200, content_type="", body="hang up")

    def whisper_reply(self, whisper: Whisper) -> WebhookReply:
        """Whisper."""
        return WebhookReply(status=200, content_type="whisper", body=whisper.text)

    def join_reply(self, join: ConferenceJoin) -> WebhookReply:
        """Enter a conference."""
        return WebhookReply(status=200, content_type="join", body=join.name)

    # -------------------------------------------------------------------------------- what happens

    def enter(self, line: Line, room: str) -> None:
        """A call enters a conference."""
        self._leave(line)
        line.place, line.room = "room", room
        self.rooms[room].append(line)

    def _leave(self, line: Line) -> None:
        if line.room is None:
            return
        room, line.room = self.rooms.pop(line.room), None
        for other in room:
            if other is line:
                continue
            other.room = None
            if other.party == "caller":
                self._come_back(other)
            else:
                other.place = "answered"
                self._ask(other, "left")

    def _come_back(self, line: Line) -> None:
        line.place = "coming_back"
        leg = next(leg for leg in reversed(self.lines.values()) if leg.party == "operator")
        self.pending.append(("resume", lambda: self._world.resume(line, cast("UUID", leg.leg_id))))

    def end(self, line: Line, reason: EndReason) -> None:
        """A call ends."""
        if line.is_live:
            line.place, line.over_at = "over", self.clock.now()
            self._leave(line)
            if line.party == "operator":
                self._status(line, "ended", reason, reason)
            else:
                self.pending.append(("caller", self._world.caller_is_over))

    def answer(self, line: Line, by: AnsweredBy = "human") -> None:
        """The operator's telephone is answered."""
        if line.place == "ringing":
            line.place = "answered"
            self._status(line, "in_progress", "answered")
            self._ask(line, "whisper", by)

    def press(self, line: Line, key: str | None) -> None:
        """The operator presses a key, or none in time."""
        if line.place == "whisper":
            line.place = "answered"
            self._ask(line, "key", key)
        elif line.place == "room" and key == "*":
            line.place = "answered"
            self._leave(line)
            self._ask(line, "left")

    def _status(self, line: Line, status: Any, word: str, reason: EndReason | None = None) -> None:
        report = status_of(line, status, word, reason)
        self.pending.append((word, lambda: self._world.report(line, report)))

    def _ask(self, line: Line, what: str, about: str | None = None) -> None:
        self.pending.append((what, lambda: self._world.ask(line, what, about)))

    @property
    def _world(self) -> World:
        assert self.world is not None
        return self.world

    def lines_of(self, party: Party) -> list[Line]:
        """The calls of one side, in order."""
        return [line for line in self.lines.values() if line.party == party]


def status_of(line: Line, status: Any, word: str, reason: EndReason | None = None) -> CallStatus:
    """A report of the progress of a call."""
    return CallStatus(
        carrier_call_id=line.sid,
        status=status,
        terminal=status == "ended",
        end_reason=reason,
        duration_ms=None,
        carrier_status=word,
        sequence=None,
        error_code=None,
    )


class World:
    """An account with a caller on the line, an operator with a claim, and the bridge between them."""

    def __init__(self, env: HandoffEnvironment, exchange: Exchange, call: CallRecord, user_id: UUID) -> None:
        self.env = env
        self.database: Database = env.database
        self.clock = env.clock
        self.exchange = exchange
        self.call_id = call.id
        self.user_id = user_id
        self.tasks = BackgroundTasks("bridge")
        self.handoff_id = new_id()
        self.caller = Line(sid=str(call.carrier_call_id), party="caller", place="agent")
        exchange.lines[self.caller.sid] = self.caller
        exchange.world = self
        self.start()

    def start(self) -> None:
        """A process begins."""
        carriers = {"twilio": cast("BridgeCarrier", self.exchange)}
        ends = LegEnds(self.database, self.clock, carriers, self.tasks)
        self.bridge = Bridge(self.database, self.clock, carriers, ends, self.tasks)
        self.legs = LegReports(self.database, self.clock, carriers, self.bridge, ends, decided_within_s=0.0)

    # ------------------------------------------------------------------------------------ operators

    async def claim(self) -> HandoffRecord:
        """The operator claims a new handoff of the caller."""
        self.handoff_id = (await self.env.escalate(self.call_id)).id
        return (await self.env.service.claim(self.env.account_id, self.handoff_id, self.user_id)).handoff

    async def dial(self) -> None:
        """Have the operator called."""
        await self.bridge.dial(self.env.account_id, self.handoff_id, self.user_id, ORIGIN)
        await self.settle()

    async def accept(self) -> None:
        """The operator accepts over the API."""
        await self.bridge.accept(self.env.account_id, self.handoff_id, self.user_id)
        await self.settle()

    async def give_back(self) -> None:
        """The operator gives the caller back over the API."""
        await self.bridge.give_back(self.env.account_id, self.handoff_id, self.user_id)
        await self.settle()

    async def ringing(self) -> Line:
        """Claim, dial and deliver that it rings."""
        await self.claim()
        await self.dial()
        await self.deliver()
        return self.operator

    async def whispering(self) -> Line:
        """The operator hears the whisper."""
        line = await self.ringing()
        self.exchange.answer(line)
        await self.deliver()
        assert line.place == "whisper"
        return line

    async def bridged(self) -> Line:
        """The caller and the operator are connected."""
        line = await self.whispering()
        self.exchange.press(line, "1")
        await self.deliver()
        assert (line.place, self.caller.place) == ("room", "room")
        return line

    @property
    def operator(self) -> Line:
        """The operator's latest call."""
        return self.exchange.lines_of("operator")[-1]

    # ---------------------------------------------------------------------------- the carrier's part

    async def deliver(self, *, times: int = 1) -> None:
        """Deliver what the carrier reports, in order, until nothing is left."""
        while self.exchange.pending:
            _, report = self.exchange.pending.pop(0)
            for _ in range(times):
                await report()
                await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is done in the background."""
        await self.tasks.finish()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, with the checks of the legs, and deliver what is reported meanwhile."""
        until = self.clock.now().timestamp() + seconds
        while self.clock.now().timestamp() < until:
            self.clock.advance(seconds=SWEEP_S)
            await self.legs.sweep()
            await self.settle()
            await self.deliver()

    async def report(self, line: Line, status: CallStatus) -> None:
        """Report the progress of the operator's call."""
        await self.legs.status(await self.leg(line), status, "unknown")

    async def ask(self, line: Line, what: str, about: str | None) -> None:
        """Ask for instructions for the operator's call, and follow them."""
        leg = await self.leg(line)
        if what == "whisper":
            reply = await self.legs.answered(leg, line.sid, cast("AnsweredBy", about))
        elif what == "key":
            reply = await self.legs.key(leg, line.sid, about)
        else:
            word = "in_progress" if line.is_live else "ended"
            reply = await self.legs.operator_left(leg, status_of(line, word, what, "completed"))
        if not line.is_live or line.place == "room":
            return  # the call ended, or was led elsewhere meanwhile
        if reply.content_type == "whisper":
            line.place = "whisper"
        elif reply.content_type == "join":
            self.exchange.enter(line, reply.body)
        else:
            self.exchange.end(line, "completed")

    async def resume(self, line: Line, leg_id: UUID) -> None:
        """Ask for instructions for the caller, as the webhook /resume does."""
        if not line.is_live:
            return
        back = await self.legs.caller_back(await legs.get(self.database, leg_id))
        if line.place != "coming_back":
            return
        if back is not None:
            line.place = "agent"
        else:
            if (await self.call()).status == "transferring":
                await self._finish("operator", "handoff_resolved")
            self.exchange.end(line, "completed")

    async def caller_is_over(self) -> None:
        """The carrier reports that the caller's call has ended."""
        await self._finish("caller", "hangup")
        await self.legs.caller_left(await self.call())

    async def _finish(self, by: Any, reason: str) -> None:
        end = CallEnd(ended_by=by, end_reason=reason, outcome=None, ended_at=self.clock.now())
        await calls.finish(self.database, self.env.account_id, self.call_id, end)

    # ----------------------------------------------------------------------------------- what is known

    async def leg(self, line: Line) -> LegRecord:
        """The leg of an operator's call."""
        assert line.leg_id is not None
        return await legs.get(self.database, line.leg_id)

    async def call(self) -> CallRecord:
        """The caller's call."""
        return await calls.get(self.database, self.env.account_id, self.call_id)

    async def handoff(self) -> HandoffRecord:
        """The handoff."""
        return await handoffs.get(self.database, self.env.account_id, self.handoff_id)

    async def told(self) -> list[tuple[str, Any]]:
        """The events about legs, with their causes, in order."""
        return [
            (event.type.partition(".")[2], event.data["cause"])
            for event in await self.env.events()
            if "leg" in event.data
        ]


async def make_world(env: HandoffEnvironment, seeded: SeededAccount, clock: ManualClock) -> World:
    """The world of one test: the seeded call is answered, and an operator has a telephone."""
    call = await calls.answered(env.database, seeded.id, seeded.call.id, clock.now())
    user_id = await env.operator()
    await users.set_phone(env.database, seeded.id, user_id, PHONE)
    return World(env, Exchange(clock), call, user_id)
