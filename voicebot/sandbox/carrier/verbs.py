"""What a call does with each verb of a TwiML document."""

from __future__ import annotations

import asyncio
import io
import wave
from datetime import UTC, datetime
from urllib.parse import urljoin

from voicebot.sandbox.audio.mulaw import Samples, samples_of, through_the_line
from voicebot.sandbox.carrier.call import Call, Document, Fetch, Over, Step
from voicebot.sandbox.carrier.conference import Conferences
from voicebot.sandbox.carrier.model import Phone, WebhookFailed, new_sid
from voicebot.sandbox.carrier.stream import MediaStream, StreamIdentity, StreamRefused
from voicebot.sandbox.carrier.timeline import SAMPLE_RATE
from voicebot.sandbox.carrier.twiml import (
    Dial,
    Gather,
    Hangup,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    Stream,
    Verb,
)
from voicebot.sandbox.carrier.webhooks import Callback
from voicebot.sandbox.speech.synthesis import synthesize

_HUNG_UP = Over(status="completed", by="twiml")


async def perform(call: Call, document: Document, phones: dict[str, Phone], conferences: Conferences) -> Step:
    """Do the verbs in order, and return what comes after the document: its end is the end of the call.

    Source: twilio.com/docs/voice/twiml (verbs run one by one; after the last Twilio hangs up).
    """
    for verb in document.verbs:
        step = await _do(call, verb, document.base, phones, conferences)
        if step is not None:
            return step
    call.answer()
    return _HUNG_UP


async def _do(
    call: Call, verb: Verb, base: str, phones: dict[str, Phone], conferences: Conferences
) -> Step | None:
    if isinstance(verb, Reject) and call.answered_at is None:
        return Over(status="busy" if verb.reason == "busy" else "no-answer", by="twiml")
    if isinstance(verb, Redirect):
        return Fetch(url=urljoin(base, verb.url), method=verb.method)
    if isinstance(verb, Pause):  # the one verb that may come before the answer
        await asyncio.sleep(verb.seconds)
        return None
    call.answer()
    if isinstance(verb, Hangup | Reject):
        return _HUNG_UP
    if isinstance(verb, Stream):
        await _stream(call, verb, base)
        return None
    if isinstance(verb, Dial) and verb.conference is not None:
        await conferences.attend(call, verb.conference, base, star_leaves=verb.hangup_on_star)
        return None if verb.action is None else Fetch(url=urljoin(base, verb.action), method=verb.method)
    if isinstance(verb, Dial):
        return await _dial(call, verb, base, phones)
    if isinstance(verb, Gather):
        return await _gather(call, verb, base)
    await _sound(call, await _voice(call, verb, base), verb.loop)
    return None


async def _stream(call: Call, noun: Stream, base: str) -> None:
    """Connect the line to the server's websocket until either side closes it."""
    wrong, sid = call.leg.wrong, new_sid("MZ")
    parameters = noun.parameters if wrong.parameters is None else wrong.parameters
    identity = StreamIdentity(
        stream_sid=sid, account_sid=call.settings.account_sid, call_sid=call.sid, parameters=parameters
    )
    stream = MediaStream(identity, call.line, wrong, call.log, breaks=not (call.streams and wrong.drop_once))
    address, forwarded = call.webhooks.reach(noun.url)
    signature = call.webhooks.signature(noun.url, {}, wrong.sign_with)
    try:
        await stream.open(address, {"X-Twilio-Signature": signature, **forwarded})
    except StreamRefused as error:
        call.log("complaint", code=31920, why=str(error))
        _report(call, noun, base, sid, error=str(error))
        return
    call.streams.append(stream)
    call.stream = stream
    _report(call, noun, base, sid, event="stream-started")
    try:
        code, reason = await stream.run()
        call.log("stream.closed", by="server", code=code, reason=reason)
    except asyncio.CancelledError:
        await stream.stop()
        call.log("stream.closed", by="carrier", code=1000, reason="")
        raise
    finally:
        call.stream = None
        _report(call, noun, base, sid, event="stream-stopped")


def _report(
    call: Call, noun: Stream, base: str, sid: str, *, event: str = "stream-error", error: str | None = None
) -> None:
    """Queue the stream's status callback (twilio.com/docs/voice/twiml/stream#statuscallback)."""
    call.log(event)
    if noun.status_callback is None:
        return
    params = {
        "AccountSid": call.settings.account_sid,
        "CallSid": call.sid,
        "StreamSid": sid,
        "StreamName": noun.name or sid,
        "StreamEvent": event,
        "Timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    if error is not None:
        params["StreamError"] = error
    url = urljoin(base, noun.status_callback)
    call.callbacks.add(Callback(url=url, params=params, method=noun.status_callback_method))


async def _dial(call: Call, verb: Dial, base: str, phones: dict[str, Phone]) -> Step | None:
    """Ring another telephone; once it answers, the two talk, unheard, until one of them hangs up.

    Source: twilio.com/docs/voice/twiml/dial (`action` is told DialCallStatus; else the next verb follows).
    """
    phone = phones.get(verb.number, Phone(outcome="no-answer", after_ms=verb.timeout_s * 1000))
    call.log("dial", number=verb.number)
    await asyncio.sleep(min(phone.after_ms / 1000, verb.timeout_s))
    outcome = phone.outcome if phone.after_ms / 1000 <= verb.timeout_s else "no-answer"
    call.log("dial.ended" if outcome != "answers" else "dial.bridged", number=verb.number, outcome=outcome)
    if outcome == "answers":
        await (asyncio.sleep(phone.talk_ms / 1000) if phone.talk_ms is not None else asyncio.Event().wait())
    if verb.action is None:
        return None
    more = {"DialCallStatus": "completed" if outcome == "answers" else outcome, "DialCallSid": new_sid("CA")}
    return Fetch(url=urljoin(base, verb.action), method=verb.method, more=more)


async def _gather(call: Call, verb: Gather, base: str) -> Step | None:
    """Say the prompt and wait for a key, which may come before its end; without one the next verb follows.

    Source: twilio.com/docs/voice/twiml/gather.
    """
    call.keys = asyncio.Queue()
    saying = asyncio.create_task(_prompt(call, verb, base))
    key = asyncio.create_task(call.keys.get())
    try:
        await asyncio.wait({saying, key}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({key}, timeout=verb.timeout_s)
        if not key.done():
            return None
        saying.cancel()
        call.line.heard.clear(call.line.now())
        more = {"Digits": key.result(), "FinishedOnKey": ""}
        url = base if verb.action is None else urljoin(base, verb.action)
        return Fetch(url=url, method=verb.method, more=more)
    finally:
        saying.cancel()
        key.cancel()


async def _prompt(call: Call, verb: Gather, base: str) -> None:
    for each in verb.say:
        if isinstance(each, Pause):
            await asyncio.sleep(each.seconds)
        else:
            await _sound(call, await _voice(call, each, base), each.loop)


async def _voice(call: Call, verb: Say | Play, base: str) -> Samples:
    if isinstance(verb, Say):
        return samples_of(await asyncio.to_thread(synthesize, verb.text, call.settings.carrier_voice_id))
    url = urljoin(base, verb.url)
    try:
        return _wav(await call.webhooks.download(url))
    except (WebhookFailed, wave.Error, EOFError, ValueError) as error:
        call.log("complaint", code=12400, why=f"<Play>: {type(error).__name__}: {error}")
        return samples_of(b"")


def _wav(content: bytes) -> Samples:
    with wave.open(io.BytesIO(content)) as sound:
        if (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) != (1, 2, SAMPLE_RATE):
            raise ValueError("only mono 16-bit WAV at 8,000 Hz is played here")
        return samples_of(sound.readframes(sound.getnframes()))


async def _sound(call: Call, samples: Samples, times: int) -> None:
    for _ in range(times):
        start = call.line.heard.append(through_the_line(samples), call.line.now())
        await asyncio.sleep((start + len(samples) - call.line.now()) / SAMPLE_RATE)
