"""Conferences: participants hear each other; one ends when a participant that ends it leaves.

Source: twilio.com/docs/voice/twiml/conference. A callback is sent to the URL of the first participant only.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.carrier.twiml import Conference as ConferenceNoun
from voicebot.sandbox.carrier.webhooks import Callback

if TYPE_CHECKING:  # a call and its conference know each other
    from voicebot.sandbox.carrier.call import Call


class Room:
    """One conference in progress."""

    def __init__(self, name: str, first: Call, noun: ConferenceNoun, base: str) -> None:
        self.name = name
        self.participants: list[Call] = []
        self.ended = asyncio.Event()
        self._reporter = first
        self._noun = noun
        self._url = urljoin(base, noun.status_callback) if noun.status_callback else None
        self._sequence = 0

    def frame(self, speaker: Call, samples: Samples) -> None:
        """Let the others hear 20 ms of one participant."""
        for other in self.participants:
            if other is not speaker:
                other.line.heard.append(samples, other.line.now())

    def report(self, event: str, noun: ConferenceNoun, who: Call | None = None) -> None:
        """Queue the callback of an event, if it was asked for."""
        short = {"participant-join": "join", "participant-leave": "leave"}.get(event, event.partition("-")[2])
        self._sequence += 1
        if self._url is None or short not in self._noun.status_events:
            return
        params = {
            "AccountSid": self._reporter.settings.account_sid,
            "FriendlyName": self.name,
            "StatusCallbackEvent": event,
            "SequenceNumber": str(self._sequence),
            "Timestamp": format_datetime(datetime.now(UTC)),
        }
        if who is not None:
            params |= {"CallSid": who.sid, "ParticipantLabel": noun.label or ""}
        self._reporter.callbacks.add(Callback(url=self._url, params=params))


class Conferences:
    """The conferences of one account, by name."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}

    async def attend(self, call: Call, noun: ConferenceNoun, base: str, *, star_leaves: bool) -> None:
        """Be in a conference until it ends, or until the star is pressed where that leaves it."""
        room = self.rooms.get(noun.name)
        if room is None or room.ended.is_set():
            room = self.rooms[noun.name] = Room(noun.name, call, noun, base)
        room.participants.append(call)
        call.room = room
        call.keys = asyncio.Queue()
        call.log("conference.joined", room=noun.name, label=noun.label)
        room.report("participant-join", noun, call)
        if len(room.participants) == 2:
            room.report("conference-start", noun)
        leaving = asyncio.create_task(_star(call, star_leaves=star_leaves))
        ending = asyncio.create_task(room.ended.wait())
        try:
            await asyncio.wait({leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            ending.cancel()
            self._leave(call, room, noun)

    def _leave(self, call: Call, room: Room, noun: ConferenceNoun) -> None:
        call.room = None
        room.participants.remove(call)
        call.log("conference.left", room=noun.name)
        room.report("participant-leave", noun, call)
        if noun.end_on_exit or not room.participants:
            if not room.ended.is_set():
                room.report("conference-end", noun)
            room.ended.set()


async def _star(call: Call, *, star_leaves: bool) -> None:
    while await call.keys.get() != "*" or not star_leaves:
        pass
