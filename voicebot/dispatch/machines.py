"""Handles answering machines that answer outbound calls.

There are two sources: the carrier's detection, and the words on the call. Each report is written to the
call's row, and one conditional statement lets one of them act, so that copies and late reports change
nothing. A message is left after the beep, which only the carrier detects: words alone lead to a message only
if the carrier reported a person, or does not detect machines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Literal
from uuid import UUID

from loguru import logger

from db import answering_machines, attempts, bridged_calls, events, utterances
from db.call_start import CallStart, read_start
from db.calls import CallRecord
from db.errors import DatabaseError, NotFound
from db.events import EventRecord
from db.ids import id_of
from db.pool import Database
from db.utterances import UtteranceRecord
from telephony.carrier import Carrier
from telephony.errors import CarrierError
from telephony.flow import FlowCarrier
from telephony.machines import Detection, MachineCarrier
from templates.model import TemplateContent
from templates.outbound import Voicemail
from templates.values import InvalidValues, render, resolve
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock
from voicebot.dispatch.machine_words import evidence

LISTEN_MS = 30_000
"""How long after the answer words may tell of a machine, in ms."""

PAUSE_S = 2
"""Pause before a message whose beep the carrier does not report, in s."""

MESSAGE = timedelta(minutes=3)
"""How long a call may last on which a message is left."""

MACHINE_DETECTED = "machine.detected"
"""The type of the event."""

Source = Literal["carrier", "conversation"]

EndHere = Callable[[UUID, str | None, float], Awaitable[bool]]
"""Ends a live call of this process after a pause (s) and a message; False: there is no such call here."""


class AnsweringMachines:
    """Acts on machines that answer the calls of all accounts."""

    def __init__(
        self, database: Database, clock: Clock, carriers: Mapping[str, Carrier], end_here: EndHere
    ) -> None:
        """Hang up by ``carriers``, and leave messages by those that can.

        Calls of a carrier that takes no orders are ended by ``end_here``, on their media stream.
        """
        self._db = database
        self._clock = clock
        self._carriers = carriers
        self._detectors = {
            name: carrier for name, carrier in carriers.items() if isinstance(carrier, MachineCarrier)
        }
        self._by_stream = {name for name, carrier in carriers.items() if isinstance(carrier, FlowCarrier)}
        self._end_here = end_here
        self._background = BackgroundTasks("answering machines")

    async def reported(self, call: CallRecord, detection: Detection) -> None:
        """Handle the carrier's report of who answered a call.

        Raises:
            DatabaseError: that cannot be written now.
        """
        who = detection.who
        if who == "machine" and await self._is_screening(call):
            who = "human"
        before = await answering_machines.report_answered_by(self._db, call.id, who)
        if before is None:
            return
        # Words may have told of the machine before, and waited for a beep that is not reported.
        is_missed = who != "machine" and before.answered_by == "machine"
        if who == "machine" or is_missed:
            await self._act(call, "carrier", has_beeped=detection.is_over or is_missed, detection=detection)

    def heard(self, said: UtteranceRecord) -> None:
        """Take an utterance of a call; return at once."""
        is_early = said.speaker == "caller" and said.started_ms <= LISTEN_MS
        if is_early and evidence([said.text]) == "machine":
            self._background.start(self._told(said), name=f"the machine of call {said.call_id}")

    async def finish(self, timeout_s: float) -> None:
        """Wait until work that has begun is done."""
        await self._background.finish(timeout_s)

    async def _told(self, said: UtteranceRecord) -> None:
        try:
            call = await attempts.attempt_of(self._db, said.call_id)
            if call is None or await self._is_screening(call):
                return
            before = await answering_machines.report_answered_by(self._db, call.id, "machine")
            if before is None:
                return
            beep_follows = call.carrier in self._detectors and before.answered_by in (None, "machine")
            await self._act(call, "conversation", has_beeped=not beep_follows)
        except DatabaseError as error:
            logger.warning("call {}: a machine was not noted: {}", said.call_id, type(error).__name__)

    async def _is_screening(self, call: CallRecord) -> bool:
        said = await utterances.of_call(self._db, call.account_id, call.id)
        return evidence(one.text for one in said if one.speaker == "caller") == "screening"

    async def _act(
        self, call: CallRecord, source: Source, *, has_beeped: bool, detection: Detection | None = None
    ) -> None:
        try:
            start = await read_start(self._db, call)
        except NotFound:
            return
        content = TemplateContent.model_validate(start.template.content)
        action = content.outbound.voicemail.action
        text = _text(content, start) if action == "message" else ""
        has_voice = call.carrier in self._detectors or call.carrier in self._by_stream
        can_say = has_voice and (detection is None or detection.takes_message)
        if action == "message" and not (text and can_say):
            action = "hang_up"
        if action == "message" and not has_beeped:
            return
        if action != "continue" and not await answering_machines.begin_machine_action(self._db, call.id):
            return
        await events.append(self._db, self._event(call, source, action))
        if action == "message":
            await self._leave_message(call, text, content.language, source)
        elif action == "hang_up":
            await self._hang_up(call)

    async def _leave_message(self, call: CallRecord, text: str, language: str, source: Source) -> None:
        if call.carrier in self._by_stream:
            await self._end_here(call.id, text, PAUSE_S)
            return
        left = await answering_machines.leave_to_message(self._db, call.account_id, call.id, MESSAGE)
        if left is None or left.carrier_call_id is None:
            return
        pause_s = 0 if source == "carrier" else PAUSE_S
        try:
            await self._detectors[call.carrier].leave_message(left.carrier_call_id, text, language, pause_s)
        except CarrierError as error:
            logger.warning("call {}: no message was left: {}", call.id, error)
            await bridged_calls.cancel_transfer(self._db, call.account_id, call.id)
            await self._hang_up(call)

    async def _hang_up(self, call: CallRecord) -> None:
        if call.carrier in self._by_stream:
            await self._end_here(call.id, None, 0.0)
            return
        carrier = self._carriers.get(call.carrier)
        if carrier is None or call.carrier_call_id is None:
            return
        try:
            await carrier.hang_up(call.carrier_call_id)
        except CarrierError as error:
            logger.warning("call {}: the machine was not hung up on: {}", call.id, error)

    def _event(self, call: CallRecord, source: Source, action: str) -> EventRecord:
        data, event_id = {"source": source, "action": action}, id_of(call.id, MACHINE_DETECTED)
        return EventRecord.unnumbered(call, MACHINE_DETECTED, data, self._clock.now(), event_id)


def _text(content: TemplateContent, start: CallStart) -> str:
    """The message with the lead's values; empty if they do not fit the template."""
    voicemail: Voicemail = content.outbound.voicemail
    try:
        values = resolve(content.variables, start.payload, source="payload")
    except InvalidValues:
        return ""
    return render(voicemail.message, values).strip()
