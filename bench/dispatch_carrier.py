"""A scripted carrier for `bench.dispatch`: one in the bench, which all dispatchers reach by a socket.

It rings, answers, talks and ends calls after the times of a script, and reports to the database as webhooks
do. It notes what no dispatcher may do: a second call beside the first, or more calls than a number has
channels.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeVar, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from db import attempts, carrier_calls
from db.errors import DatabaseError
from db.pool import Database
from telephony.carrier import Carrier, DialRequest
from telephony.errors import CarrierError
from voicebot.background import BackgroundTasks
from voicebot.batches import Batches
from voicebot.clock import SystemClock

ResultT = TypeVar("ResultT")

RINGING = timedelta(seconds=60)

_ANSWERED = """
    WITH call AS (
        UPDATE calls SET answered_at = now(), status = 'in_progress'
        WHERE id = ANY($1::uuid[]) AND status = 'ringing' RETURNING account_id, lead_id
    )
    UPDATE leads SET status = 'in_call' FROM call
    WHERE leads.account_id = call.account_id AND leads.id = call.lead_id AND leads.status = 'dialing'
"""

_ENDED = """
    UPDATE calls SET status = 'ended', ended_by = 'carrier', end_reason = given.reason, ended_at = now()
    FROM unnest($1::uuid[], $2::text[]) AS given (id, reason)
    WHERE calls.id = given.id AND calls.status <> 'ended'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How the people behave. Times are in s."""

    answer_s: float = 0.02
    """Until the carrier answers the request to dial."""
    ring_s: float = 0.3
    talk_s: float = 0.7
    busy: float = 0.2
    """The part of the calls that meet a busy line."""
    reports: bool = True
    """Whether the calls ring, and whether anything is reported of them."""


@dataclass(frozen=True, slots=True)
class Dial:
    """A call that the carrier was asked to place."""

    call_id: UUID
    to: str
    from_: str
    at: datetime


def _sid(place: int) -> str:
    return f"CA{place:032x}"


@dataclass
class ScriptedCarrier:
    """The carrier's side of all calls."""

    database: Database
    channels: int
    script: Script = field(default_factory=Script)
    dials: list[Dial] = field(default_factory=list)
    live: dict[str, Dial] = field(default_factory=dict)
    live_calls: Counter[str] = field(default_factory=Counter)
    """How many live calls a telephone number has, ours or a person's."""
    faults: list[str] = field(default_factory=list)
    """What should not have happened."""
    background: BackgroundTasks = field(default_factory=lambda: BackgroundTasks("carrier"))
    chance: random.Random = field(default_factory=lambda: random.Random(15))
    clock: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        """Report to the database what the server's webhooks do, of several calls by one statement."""
        self._accounts = Batches(self._accounts_of, self.background, "accounts of calls")
        self._placed = Batches(self._all_placed, self.background, "ids of calls")
        self._statuses = Batches(
            partial(carrier_calls.carrier_statuses, self.database), self.background, "statuses of calls"
        )
        self._answers = Batches(self._all_answered, self.background, "calls that are answered")
        self._ends = Batches(self._all_ended, self.background, "calls that end")

    async def _accounts_of(self, call_ids: Sequence[UUID]) -> Sequence[UUID]:
        rows = await self.database.fetch(
            "SELECT id, account_id FROM calls WHERE id = ANY($1::uuid[])", list(call_ids)
        )
        found = {row["id"]: row["account_id"] for row in rows}
        return [found[call_id] for call_id in call_ids]

    async def _all_placed(self, answers: Sequence[tuple[UUID, UUID, str]]) -> Sequence[bool]:
        stored = await attempts.all_placed(self.database, answers, RINGING)
        return [call_id in stored for _, call_id, _ in answers]

    async def _all_answered(self, call_ids: Sequence[UUID]) -> Sequence[None]:
        await self.database.execute(_ANSWERED, list(call_ids))
        return [None] * len(call_ids)

    async def _all_ended(self, ends: Sequence[tuple[UUID, str]]) -> Sequence[None]:
        call_ids, reasons = zip(*ends, strict=True)
        await self.database.execute(_ENDED, list(call_ids), list(reasons))
        return [None] * len(ends)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a dispatcher, which sends one request after the other."""
        try:
            while line := await reader.readline():
                request = json.loads(line)
                answer = await getattr(self, f"_{request.pop('what')}")(**request)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # its process was killed
        finally:
            writer.close()

    async def _dial(self, to: str, from_: str, call_id: str) -> str:
        dial = Dial(UUID(call_id), to, from_, self.clock.now())
        self.dials.append(dial)
        self._check(dial)
        sid = _sid(len(self.dials))
        self.live[sid] = dial
        if self.script.reports:
            self.background.start(self._call(sid, dial), name="call", droppable=True)
        await asyncio.sleep(self.script.answer_s)
        return sid

    def _check(self, dial: Dial) -> None:
        self.live_calls.update((dial.to, dial.from_))
        if self.live_calls[dial.to] > 1:
            self.faults.append(f"{dial.to} was dialled while a call to it was live")
        if self.live_calls[dial.from_] > self.channels:
            self.faults.append(f"{dial.from_} has more calls than channels")

    async def _hang_up(self, sid: str) -> None:
        await self._end(sid, "canceled")

    async def _find_calls(self, to: str, from_: str, since: str) -> list[str]:
        return [
            _sid(place)
            for place, dial in enumerate(self.dials, 1)
            if (dial.to, dial.from_) == (to, from_) and dial.at >= datetime.fromisoformat(since)
        ]

    async def _is_live(self, sid: str) -> bool:
        return sid in self.live

    async def _call(self, sid: str, dial: Dial) -> None:
        """Ring, answer, talk and end, with the reports that webhooks make."""
        await asyncio.sleep(self.script.ring_s)
        account_id = await reported(lambda: self._accounts.put(dial.call_id))
        if sid not in self.live:
            return
        await reported(lambda: self._placed.put((account_id, dial.call_id, sid)))
        await reported(lambda: self._statuses.put(("twilio", sid, "ringing")))
        if self.chance.random() < self.script.busy:
            await self._end(sid, "busy")
            return
        await reported(lambda: self._answers.put(dial.call_id))
        await asyncio.sleep(self.script.talk_s)
        await self._end(sid, "hangup")

    async def _end(self, sid: str, reason: Literal["busy", "hangup", "canceled"]) -> None:
        dial = self.live.pop(sid, None)
        if dial is not None:
            self.live_calls.subtract((dial.to, dial.from_))
            await reported(lambda: self._ends.put((dial.call_id, reason)))

    def repeated(self) -> int:
        """How many attempts were dialled more than once."""
        return sum(number - 1 for number in Counter(dial.call_id for dial in self.dials).values())


async def reported(report: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Report until the database has it: carriers repeat requests that were not answered."""
    while True:
        try:
            return await report()
        except DatabaseError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(0.1)


class CarrierClient:
    """The carrier as a dispatcher's process has it."""

    name = "twilio"
    webhooks_path = "/webhooks/twilio"

    def __init__(self, port: int) -> None:
        """Reach the carrier at a port of this machine."""
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def as_carrier(self) -> Carrier:
        """This object, for who needs the whole protocol."""
        return cast(Carrier, self)

    async def dial(self, request: DialRequest) -> str:
        """Place a call."""
        (call_id,) = parse_qs(urlsplit(request.answer_url).query)["call"]
        return str(await self._ask("dial", to=request.to, from_=request.from_, call_id=call_id))

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call."""
        await self._ask("hang_up", sid=carrier_call_id)

    async def is_live(self, carrier_call_id: str) -> bool:
        """Whether a call has not ended."""
        return bool(await self._ask("is_live", sid=carrier_call_id))

    async def find_calls(self, *, from_: str, to: str, since: datetime) -> Sequence[str]:
        """The calls between two numbers."""
        found: list[str] = await self._ask("find_calls", from_=from_, to=to, since=since.isoformat())
        return found

    async def _ask(self, what: str, **values: str) -> Any:
        try:
            if not self._idle:
                self._idle.append(await asyncio.open_connection("127.0.0.1", self._port))
            reader, writer = self._idle.pop()
            writer.write(json.dumps({"what": what, **values}).encode() + b"\n")
            answer = json.loads(await reader.readline())
            self._idle.append((reader, writer))
        except (OSError, ValueError) as error:
            raise CarrierError(str(error), status=0, retryable=True, uncertain=True) from error
        return answer
