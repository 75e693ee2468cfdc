"""The simulated Twilio: places calls to a server and from it, and conducts each to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Self

from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.carrier.call import Call, Document, Fetch, Leg, Over, Step
from voicebot.sandbox.carrier.conference import Conferences
from voicebot.sandbox.carrier.line import LineDead
from voicebot.sandbox.carrier.model import (
    CarrierSettings,
    Misbehaviour,
    Person,
    Phone,
    TwimlError,
    WebhookFailed,
)
from voicebot.sandbox.carrier.twiml import Verb, parse
from voicebot.sandbox.carrier.verbs import perform
from voicebot.sandbox.carrier.webhooks import Answer, Webhooks

_MAX_STEPS = 50
_FAREWELL_S = 0.5  # what a person gets to notice that the line is dead


class Carrier:
    """One account of the simulated Twilio, pointed at one server. Use as an async context manager.

    async with Carrier(CarrierSettings(public_url=url, account_sid="AC…", auth_token="…")) as carrier:
        call = carrier.call(from_="+15550100", to="+15550199", person=caller)
        await call.ended()
        call.recording(), call.events, call.complaints
    """

    def __init__(self, settings: CarrierSettings, phones: Mapping[str, Phone] | None = None) -> None:
        self.settings = settings
        self.calls: dict[str, Call] = {}
        self.phones: dict[str, Phone] = dict(phones or {})
        """Who can be rung: a number that is not here does not answer."""
        self.conferences = Conferences()
        self._webhooks = Webhooks(settings)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self.calls.values():
            if call.live:
                call.order(Over(status="completed", by="carrier"))
        await asyncio.gather(*self._tasks)
        await self._webhooks.aclose()

    def call(
        self, *, from_: str, to: str, person: Person | None = None, wrong: Misbehaviour | None = None
    ) -> Call:
        """Let a person call one of our numbers."""
        settings = self.settings
        leg = Leg(
            from_=from_,
            to=to,
            direction="inbound",
            status_url=settings.public_url + settings.status_path,
            status_events=settings.status_events,
            person=person,
            wrong=wrong or Misbehaviour(),
        )
        return self._begin(leg, Fetch(url=settings.public_url + settings.voice_path))

    def dial(self, leg: Leg, first: Fetch | Document, ring_s: float = 60.0) -> Call:
        """Ring a telephone from one of our numbers; when it answers, do `first`."""
        return self._begin(leg, first, ring_s)

    def _begin(self, leg: Leg, first: Fetch | Document, ring_s: float | None = None) -> Call:
        call = Call(leg, self.settings, self._webhooks)
        call.log("placed", from_=leg.from_, to=leg.to, direction=leg.direction)
        self.calls[call.sid] = call
        task = asyncio.create_task(self._run(call, first, ring_s), name=f"call {call.sid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call

    async def _run(self, call: Call, first: Step, ring_s: float | None) -> None:
        reports = asyncio.create_task(call.callbacks.deliver())
        sound = asyncio.create_task(_sound(call))
        life = asyncio.create_task(_live(call))
        step = first if ring_s is None else await _or_order(call, self._ring(call, first, ring_s))
        for _ in range(_MAX_STEPS):
            if isinstance(step, Over):
                break
            step = await _or_order(call, self._take(call, step))
        else:
            call.log("complaint", code=11000, why=f"more than {_MAX_STEPS} documents in one call")
        call.finish(step if isinstance(step, Over) else Over(status="failed", by="carrier"))
        sound.cancel()
        if call.answered_at is not None:
            await asyncio.wait({life}, timeout=_FAREWELL_S)
        life.cancel()
        await asyncio.gather(sound, life, return_exceptions=True)
        call.callbacks.finish()
        await reports
        call.close()

    async def _ring(self, call: Call, first: Step, ring_s: float) -> Step:
        phone = self.phones.get(call.leg.to, Phone(outcome="no-answer", after_ms=ring_s * 1000))
        call.move("queued")
        call.move("ringing")
        await asyncio.sleep(min(phone.after_ms / 1000, ring_s))
        if phone.outcome == "answers" and phone.after_ms <= ring_s * 1000:
            call.person = phone.person
            if call.leg.detects_machine:
                call.answered_by = "machine_start" if phone.is_machine else "human"
            call.answer()
            asyncio.get_running_loop().call_later(
                phone.detected_after_ms / 1000, partial(call.report_machine, is_machine=phone.is_machine)
            )
            return first
        outcome = "no-answer" if phone.outcome == "answers" else phone.outcome
        return Over(status=outcome, by="carrier")

    async def _take(self, call: Call, step: Step) -> Step:
        """Do one step; an error that Twilio would report ends the call as it would there."""
        if isinstance(step, Over):
            return step
        if isinstance(step, Document):
            return await perform(call, step, self.phones, self.conferences)
        try:
            return await self._fetch(call, step)
        except TwimlError as error:
            call.log("complaint", code=12100, why=f"TwiML: {error}")
        except WebhookFailed as error:
            call.log("complaint", code=11200, why=str(error))
        return Over(status="failed" if call.answered_at is None else "completed", by="carrier")

    async def _fetch(self, call: Call, fetch: Fetch) -> Document:
        repeats = call.leg.wrong.voice_webhooks if call.answered_at is None else 1
        for _ in range(repeats):
            answer = await self._webhooks.send(
                fetch.url,
                call.params() | dict(fetch.more),
                method=fetch.method,
                sign_with=call.leg.wrong.sign_with,
            )
            call.log("webhook", url=fetch.url, status=answer.status, body=answer.body)
        return Document(verbs=_read(answer), base=fetch.url)


def _read(answer: Answer) -> tuple[Verb, ...]:
    """Read a webhook's answer (twilio.com/docs/errors: 11200 is a bad status, 12300 a bad content type)."""
    if not 200 <= answer.status < 300:
        raise WebhookFailed(f"11200: answered {answer.status}")
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind not in ("text/xml", "application/xml", "text/html"):
        raise TwimlError(f"12300: content type {kind!r}")
    return parse(answer.body)


async def _or_order(call: Call, work: Coroutine[None, None, Step]) -> Step:
    """Do the work, unless an order comes first: then it is cancelled and the order is next."""
    doing = asyncio.create_task(work)
    order = asyncio.create_task(call.orders.get())
    await asyncio.wait({doing, order}, return_when=asyncio.FIRST_COMPLETED)
    if not order.done():
        order.cancel()
        return doing.result()
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    return order.result()


async def _sound(call: Call) -> None:
    """Keep the line's pace from the answer on."""
    await call.answered.wait()

    async def frame(samples: Samples) -> None:
        if call.stream is not None:
            await call.stream.frame(samples)
        elif call.room is not None:
            call.room.frame(call, samples)

    await call.line.run(frame)


async def _live(call: Call) -> None:
    """Let the person live from the answer on; one who is done stays silently on the line."""
    await call.answered.wait()
    if call.person is not None:
        with suppress(LineDead):
            await call.person(call)
