"""The simulated Exotel: conducts each call through the flow of applets to its end."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

import httpx

from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.carrier.line import LineDead
from voicebot.sandbox.carrier.model import Person, Phone
from voicebot.sandbox.carrier.stream import StreamRefused
from voicebot.sandbox.exotel.call import CallStatus, Ender, ExotelCall, Leg
from voicebot.sandbox.exotel.model import ExotelMisbehaviour, ExotelSettings, StreamFacts
from voicebot.sandbox.exotel.stream import ExotelStream

_MAX_APPLETS = 60
_HANDSHAKES = 2
_FAREWELL_S = 0.5


class FlowStopped(Exception):
    """The flow cannot go on: the end of the call, by whom."""

    def __init__(self, by: Ender, status: CallStatus = "completed") -> None:
        super().__init__(by)
        self.by = by
        self.status: CallStatus = status


class Exotel:
    """One account of the simulated Exotel, whose flow is pointed at one server. Use as a context manager."""

    def __init__(self, settings: ExotelSettings, phones: Mapping[str, Phone] | None = None) -> None:
        """`phones`: who can be rung; a number that is not there does not answer."""
        self.settings = settings
        self.phones: dict[str, Phone] = dict(phones or {})
        self.calls: dict[str, ExotelCall] = {}
        self.unusual_dialled = ExotelMisbehaviour()
        """What happens in the calls that are placed over the API."""
        self._tasks: set[asyncio.Task[None]] = set()
        # A connection that is kept may be closed by the server in the moment in which it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(timeout=settings.applet_timeout_s, limits=limits, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self.calls.values():
            call.hung_up.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()

    def call(
        self, *, from_: str, to: str, person: Person | None = None, wrong: ExotelMisbehaviour | None = None
    ) -> ExotelCall:
        """Let a person call one of our numbers."""
        return self._begin(ExotelCall(from_, to, "incoming", person, wrong or ExotelMisbehaviour()))

    def dial(
        self,
        *,
        from_: str,
        to: str,
        stream_url: str | None,
        ring_s: float,
        on_status: Any = None,
        custom_field: str = "",
    ) -> ExotelCall:
        """Ring a telephone; when it answers, its audio is streamed to an address, or it follows the flow."""
        call = ExotelCall(from_, to, "outbound-api", None, self.unusual_dialled)
        call.custom_field = custom_field
        return self._begin(call, _Dialled(stream_url=stream_url, ring_s=ring_s, on_status=on_status))

    def _begin(self, call: ExotelCall, dialled: _Dialled | None = None) -> ExotelCall:
        call.log("placed", from_=call.from_, to=call.to, direction=call.direction)
        self.calls[call.sid] = call
        task = asyncio.create_task(self._run(call, dialled), name=f"call {call.sid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call

    async def _run(self, call: ExotelCall, dialled: _Dialled | None) -> None:
        sound, life = asyncio.create_task(_sound(call)), asyncio.create_task(_live(call))
        try:
            if dialled is None:
                await self._flow(call)
            else:
                await self._outbound(call, dialled)
        except FlowStopped as stopped:
            call.finish(stopped.status, stopped.by)
        sound.cancel()
        if call.answered.is_set():
            await asyncio.wait({life}, timeout=_FAREWELL_S)
        life.cancel()
        await asyncio.gather(sound, life, return_exceptions=True)
        if dialled is not None and dialled.on_status is not None:
            await dialled.on_status(call, "terminal")
        call.close()

    # the flow

    async def _flow(self, call: ExotelCall) -> None:
        for _ in range(_MAX_APPLETS):
            facts = await self._voicebot(call)
            if await self._passthru(call, "to-person", facts.fields()):
                more = await self._connect(call)
                again = await self._passthru(call, "again", {**facts.fields(), **more})
            else:
                again = await self._passthru(call, "again", facts.fields())
            if not again:
                raise FlowStopped("flow")
        call.log("complaint", why=f"the flow went round {_MAX_APPLETS} times")
        raise FlowStopped("carrier", "failed")

    async def _voicebot(self, call: ExotelCall) -> StreamFacts:
        """The Voicebot applet: ask for the address, open the stream, and wait for its end."""
        call.answer()
        answer = await self._ask(call, "voice", {})
        sid, began = secrets.token_hex(16), time.monotonic()
        try:
            url = str(json.loads(answer.text)["url"]) if answer.status_code == 200 else ""
        except (ValueError, KeyError, TypeError):
            url = ""
        if not url.startswith(("ws://", "wss://")):
            return StreamFacts(sid=sid, url="", status="failed", duration_s=0, by="NA", error="no address")
        stream = await self._open(call, sid, url)
        if stream is None:
            return StreamFacts(sid=sid, url=url, status="failed", duration_s=0, by="NA", error="3001")
        code = await self._session(call, stream)
        if call.hung_up.is_set() and not call.unusual.asks_after_hang_up:
            raise FlowStopped("caller")
        return StreamFacts(
            sid=sid, url=url, by=stream.by, duration_s=round(time.monotonic() - began),
            status="failed" if code is None and stream.by == "NA" else "completed",
        )  # fmt: skip

    async def _open(self, call: ExotelCall, sid: str, url: str) -> ExotelStream | None:
        """Open the stream; a failed handshake is tried once more with the same address."""
        address, headers = self._reach(url)
        fails = call.unusual.failed_handshakes if not call.streams else 0
        asked = parse_qs(urlsplit(url).query).get("sample-rate", ["8000"])[0]
        start = {
            "stream_sid": sid,
            "call_sid": call.sid,
            "account_sid": self.settings.account_sid,
            "from": call.from_,
            "to": call.to,
            "custom_parameters": {},
            "media_format": {
                "encoding": "mulaw" if call.unusual.encoding == "mulaw" else "raw/slin",
                "sample_rate": str(call.unusual.sample_rate or asked),
                "bit_rate": "128kbps",
            },
        }
        for attempt in range(_HANDSHAKES):
            stream = ExotelStream(sid, start, call.line, call.unusual, call.log)
            try:
                await stream.open(
                    address, headers, timeout_s=self.settings.handshake_timeout_s, fails=attempt < fails
                )
            except StreamRefused as error:
                call.log("stream.refused", why=str(error))
                continue
            call.streams.append(stream)
            call.stream = stream
            return stream
        return None

    async def _session(self, call: ExotelCall, stream: ExotelStream) -> int | None:
        """Run a stream until the server closes it, the caller hangs up, or the session's time is over."""
        running = asyncio.create_task(stream.run())
        leaving = asyncio.create_task(call.hung_up.wait())
        limit_ms = call.unusual.session_limit_ms if len(call.streams) == 1 else None
        drop_ms = call.unusual.drop_after_ms if len(call.streams) == 1 else None
        waits_ms = min([ms for ms in (limit_ms, drop_ms) if ms is not None], default=None)
        timeout_s = None if waits_ms is None else waits_ms / 1000
        await asyncio.wait({running, leaving}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not running.done() and leaving.done():
            await stream.stop("callended", "user")
        elif not running.done() and waits_ms == limit_ms:
            await stream.stop("stopped", "NA")
        elif not running.done():
            stream.drop()
        leaving.cancel()
        code = await running
        call.stream = None
        call.log("stream.closed", code=code, by=stream.by)
        return code

    async def _passthru(self, call: ExotelCall, webhook: str, more: Mapping[str, str]) -> bool:
        """A Passthru applet: 200 or 302; another answer stops the flow."""
        answer = await self._ask(call, webhook, more)
        if answer.status_code not in (200, 302):
            call.log("complaint", why=f"{webhook} answered {answer.status_code}")
            raise FlowStopped("carrier", "failed")
        return answer.status_code == 200

    async def _connect(self, call: ExotelCall) -> Mapping[str, str]:
        """The Connect applet: dial the first number, and wait until one of the two has hung up."""
        answer = await self._ask(call, "connect", {})
        try:
            numbers = list(json.loads(answer.text)["destination"]["numbers"])
        except (ValueError, KeyError, TypeError) as error:
            call.log("complaint", why=f"connect: {type(error).__name__}: {error}")
            raise FlowStopped("carrier", "failed") from error
        if not numbers:
            return {}
        phone = self.phones.get(str(numbers[0]), Phone(outcome="no-answer"))
        if await _hangs_up(call, phone.after_ms):
            call.legs.append(Leg("canceled"))
            return self._reported(call, "client-hangup")
        if phone.outcome != "answers":
            call.legs.append(Leg(phone.outcome))
            return self._reported(call, "incomplete")
        call.log("connected", to=str(numbers[0]))
        began = time.monotonic()
        await _hangs_up(call, phone.talk_ms)
        call.legs.append(Leg("completed", max(1, round(time.monotonic() - began))))
        return self._reported(call, "completed")

    @staticmethod
    def _reported(call: ExotelCall, call_type: str) -> Mapping[str, str]:
        """The parameters of the Passthru applet behind Connect; without the caller the flow may stop."""
        if call.hung_up.is_set() and not call.unusual.asks_after_hang_up:
            raise FlowStopped("caller")
        leg = call.legs[-1]
        if not call.unusual.connected_status:
            return {}
        return {
            "CallType": call_type,
            "DialCallStatus": leg.status,
            "Legs[0][OnCallDuration]": str(leg.talked_s),
        }

    # dialled over the API

    async def _outbound(self, call: ExotelCall, dialled: _Dialled) -> None:
        phone = self.phones.get(call.to, Phone(outcome="no-answer", after_ms=dialled.ring_s * 1000))
        call.status = "ringing"
        if call.unusual.picked_up is not None:
            await call.unusual.picked_up.wait()
        else:
            await asyncio.sleep(min(phone.after_ms / 1000, dialled.ring_s))
        if phone.outcome != "answers":
            raise FlowStopped("carrier", phone.outcome)
        call.person = phone.person
        call.answer()
        if dialled.on_status is not None:
            await dialled.on_status(call, "answered")
        if dialled.stream_url is None:
            await self._flow(call)
            return
        stream = await self._open(call, secrets.token_hex(16), dialled.stream_url)
        if stream is None:
            raise FlowStopped("carrier", "failed")
        await self._session(call, stream)
        raise FlowStopped("caller" if call.hung_up.is_set() else "flow")

    # requests

    async def _ask(self, call: ExotelCall, webhook: str, more: Mapping[str, str]) -> httpx.Response:
        """Have an applet ask the server."""
        fields = {
            "CallSid": call.sid,
            "CallFrom": call.from_,
            "CallTo": call.to,
            "Direction": call.direction,
            "From": call.from_,
            "To": call.to,
            "flow_id": self.settings.flow_id,
            **({"CustomField": call.custom_field} if call.custom_field else {}),
            **more,
        }
        answer = None
        for _ in range(call.unusual.requests):
            answer = await self.request(self.settings.applet_url(webhook), fields, method=call.unusual.method)
            call.log("applet", webhook=webhook, status=answer.status_code, body=answer.text)
        if answer is None:
            raise FlowStopped("carrier", "failed")
        return answer

    async def request(self, url: str, fields: Mapping[str, str], *, method: str) -> httpx.Response:
        """Send a request to the server; one that is not answered is answered with 504."""
        address, headers = self._reach(url)
        try:
            if method == "GET":
                return await self._client.get(address, params=dict(fields), headers=headers)
            return await self._client.post(address, json=dict(fields), headers=headers)
        except httpx.HTTPError as error:
            return httpx.Response(504, text=type(error).__name__)

    def _reach(self, url: str) -> tuple[str, dict[str, str]]:
        """Where to connect for a public address, and the headers that a proxy in between would add."""
        public, server = self.settings.public_url, self.settings.server_url
        if server is None or urlsplit(url).netloc != urlsplit(public).netloc:
            return url, {}
        there = urlsplit(server)
        is_socket = urlsplit(url).scheme.startswith("ws")
        scheme = there.scheme.replace("http", "ws") if is_socket else there.scheme
        forwarded = {
            "X-Forwarded-Proto": urlsplit(public).scheme,
            "X-Forwarded-Host": urlsplit(public).netloc,
        }
        return urlunsplit(urlsplit(url)._replace(scheme=scheme, netloc=there.netloc)), forwarded


async def _hangs_up(call: ExotelCall, within_ms: float | None) -> bool:
    """Whether the caller hangs up within a time; None: wait for it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None if within_ms is None else within_ms / 1000):
            await call.hung_up.wait()
    return call.hung_up.is_set()


class _Dialled:
    """What a call that was dialled over the API does."""

    def __init__(self, *, stream_url: str | None, ring_s: float, on_status: Any) -> None:
        self.stream_url, self.ring_s, self.on_status = stream_url, ring_s, on_status


async def _sound(call: ExotelCall) -> None:
    """Keep the line's pace from the answer on."""
    await call.answered.wait()

    async def frame(samples: Samples) -> None:
        if call.stream is not None:
            await call.stream.frame(samples)

    await call.line.run(frame)


async def _live(call: ExotelCall) -> None:
    """Let the person live from the answer on; one who is done stays silently on the line."""
    await call.answered.wait()
    if call.person is not None:
        with suppress(LineDead):
            await call.person(call)
