"""The ElevenLabs server, through ElevenLabs' own client and over its bare websocket."""

import asyncio
import base64
import json
import time
from typing import Any

import pytest
import websockets
from elevenlabs.client import AsyncElevenLabs
from elevenlabs.core.api_error import ApiError
from websockets.asyncio.client import ClientConnection

from voicebot.sandbox.audio.mulaw import encode, samples_of
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.speech.synthesis import synthesize
from voicebot.sandbox.vendors.faults import Fault

TEXT = "Hello, how are you?"


def _client(sandbox: Sandbox, key: str | None = None) -> AsyncElevenLabs:
    return AsyncElevenLabs(api_key=key or sandbox.env["ELEVENLABS_API_KEY"], base_url=sandbox.urls.elevenlabs)


def _socket(sandbox: Sandbox, voice: str = "anna", query: str = "auto_mode=true", key: str = "") -> Any:
    url = sandbox.urls.elevenlabs.replace("http", "ws")
    return websockets.connect(
        f"{url}/v1/text-to-speech/{voice}/multi-stream-input?output_format=pcm_8000&{query}",
        additional_headers={"xi-api-key": key or sandbox.env["ELEVENLABS_API_KEY"]},
    )


async def _send(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def _until_final(socket: ClientConnection, contexts: int = 1) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    while sum(bool(message.get("isFinal")) for message in messages) < contexts:
        messages.append(json.loads(await asyncio.wait_for(socket.recv(), 30)))
    return messages


def _audio(messages: list[dict[str, Any]], context: str | None = None) -> bytes:
    chosen = [m for m in messages if m.get("audio") and context in (None, m["contextId"])]
    return b"".join(base64.b64decode(message["audio"]) for message in chosen)


async def test_speech_over_http_is_the_voice_in_the_format_asked_for(sandbox: Sandbox) -> None:
    """Whole or as a stream, PCM or µ-law: the same speech at 8,000 Hz."""
    spoken = synthesize(TEXT, "anna")
    speech = _client(sandbox).text_to_speech
    whole = b"".join([b async for b in speech.convert("anna", text=TEXT, output_format="pcm_8000")])
    streamed = b"".join([b async for b in speech.stream("anna", text=TEXT, output_format="ulaw_8000")])
    assert whole == spoken
    assert streamed == encode(samples_of(spoken))


async def test_other_rates_are_resampled(sandbox: Sandbox) -> None:
    """At 16,000 Hz the same text has twice the samples."""
    speech = _client(sandbox).text_to_speech
    audio = b"".join([b async for b in speech.convert("anna", text=TEXT, output_format="pcm_16000")])
    assert abs(len(audio) - 2 * len(synthesize(TEXT, "anna"))) <= 2


@pytest.mark.parametrize("output", ["mp3_44100_128", "opus_48000_32"])
async def test_a_format_it_does_not_speak_is_refused(sandbox: Sandbox, output: Any) -> None:
    """A compressed format gets 400 rather than silence."""
    with pytest.raises(ApiError) as refused:
        [b async for b in _client(sandbox).text_to_speech.convert("anna", text=TEXT, output_format=output)]
    assert refused.value.status_code == 400


async def test_a_wrong_key_is_refused_over_http_and_at_the_handshake(sandbox: Sandbox) -> None:
    """Another key gets 401 on both ways."""
    with pytest.raises(ApiError) as refused:
        await _client(sandbox, "wrong").voices.get("anna")
    assert refused.value.status_code == 401
    with pytest.raises(websockets.InvalidStatus) as rejected:
        await _socket(sandbox, key="wrong")
    assert rejected.value.response.status_code == 401


async def test_only_voices_that_exist_are_found() -> None:
    """With a list of voices, another id is 404 for descriptions, speech and sockets; the list is listed."""
    async with Sandbox(voices={"anna", "bert"}) as sandbox:
        client = _client(sandbox)
        listed = await client.voices.get_all()
        assert [voice.voice_id for voice in listed.voices] == ["anna", "bert"]
        assert (await client.voices.get("anna")).voice_id == "anna"
        with pytest.raises(ApiError) as missing:
            await client.voices.get("carl")
        assert missing.value.status_code == 404
        with pytest.raises(websockets.InvalidStatus):
            await _socket(sandbox, "carl")


async def test_a_context_speaks_its_texts_in_order_and_ends_when_closed(sandbox: Sandbox) -> None:
    """Two texts of one context come one after the other with a breath between, then isFinal."""
    async with _socket(sandbox) as socket:
        await _send(socket, text=" ", context_id="a")
        await _send(socket, text="One moment. ", context_id="a")
        await _send(socket, text="Here it is. ", context_id="a")
        await _send(socket, context_id="a", close_context=True)
        messages = await _until_final(socket)
    breath = b"\0" * (2 * 120 * 8)
    spoken = synthesize("One moment.", "anna") + breath + synthesize("Here it is.", "anna")
    assert _audio(messages) == spoken
    assert messages[-1] == {"isFinal": True, "contextId": "a"}


async def test_contexts_speak_side_by_side(sandbox: Sandbox) -> None:
    """Two contexts of a socket each get their own audio and their own end."""
    async with _socket(sandbox) as socket:
        for name, text in (("a", "One moment. "), ("b", "Here it is. ")):
            await _send(socket, text=text, context_id=name)
            await _send(socket, context_id=name, close_context=True)
        messages = await _until_final(socket, contexts=2)
    assert _audio(messages, "a") == synthesize("One moment.", "anna")
    assert _audio(messages, "b") == synthesize("Here it is.", "anna")


async def test_alignment_spells_the_text_and_times_it(sandbox: Sandbox) -> None:
    """The characters of all messages are the text; times begin at zero in each and stay within its audio."""
    async with _socket(sandbox) as socket:
        await _send(socket, text=TEXT + " ", context_id="a", flush=True)
        await _send(socket, context_id="a", close_context=True)
        messages = [m for m in await _until_final(socket) if m.get("audio")]
    alignments = [message["alignment"] for message in messages]
    assert "".join(character for a in alignments for character in a["chars"]) == TEXT + " "
    for message, alignment in zip(messages, alignments, strict=True):
        length_ms = len(base64.b64decode(message["audio"])) / 16
        starts, durations = alignment["charStartTimesMs"], alignment["charDurationsMs"]
        assert starts == sorted(starts)
        assert all(0 <= start <= length_ms + 1 for start in starts)
        assert all(s + d <= length_ms + 1 for s, d in zip(starts, durations, strict=True))


async def test_words_are_timed_where_they_sound(sandbox: Sandbox) -> None:
    """A word after a full stop begins after its pause, not in proportion to its letters."""
    async with _socket(sandbox) as socket:
        await _send(socket, text="Wait. Now it is here. ", context_id="a", flush=True)
        await _send(socket, context_id="a", close_context=True)
        messages = [m for m in await _until_final(socket) if m.get("audio")]
    begin, starts = 0.0, list[tuple[str, float]]()
    for message in messages:
        a = message["alignment"]
        starts += [(c, begin + s) for c, s in zip(a["chars"], a["charStartTimesMs"], strict=True)]
        begin += len(base64.b64decode(message["audio"])) / 16
    now = next(ms for character, ms in starts if character == "N")
    samples = abs(samples_of(synthesize("Wait. Now it is here.", "anna")).astype(int))
    quiet = [i for i in range(0, len(samples) - 400, 80) if samples[i : i + 400].max() < 200]
    pause_end_ms = (quiet[-1] + 400) / 8
    assert abs(now - pause_end_ms) < 150


async def test_without_auto_mode_text_gathers_until_it_is_flushed(sandbox: Sandbox) -> None:
    """Nothing is said of a short text before flush, and all of it after."""
    async with _socket(sandbox, query="auto_mode=false") as socket:
        for word in TEXT.split():
            await _send(socket, text=f"{word} ", context_id="a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.2)
        await _send(socket, context_id="a", flush=True)
        await _send(socket, context_id="a", close_context=True)
        assert _audio(await _until_final(socket)) == synthesize(TEXT, "anna")


async def test_the_socket_closes_after_the_last_word_when_asked_to(sandbox: Sandbox) -> None:
    """close_socket lets every context finish and then closes properly."""
    async with _socket(sandbox) as socket:
        await _send(socket, text=TEXT, context_id="a")
        await _send(socket, close_socket=True)
        messages = [json.loads(message) async for message in socket]
    assert _audio(messages) == synthesize(TEXT, "anna")
    assert socket.close_code == 1000


async def test_keep_alives_keep_an_idle_socket_open(sandbox: Sandbox) -> None:
    """An idle socket is closed after inactivity_timeout, and not while empty texts come."""
    async with _socket(sandbox, query="inactivity_timeout=1.5") as socket:
        for _ in range(8):
            await asyncio.sleep(0.25)
            await _send(socket, text="")
        assert socket.close_code is None
        assert json.loads(await asyncio.wait_for(socket.recv(), 30))["error"] == "input_timeout_exceeded"
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 30)
    assert socket.close_code == 1008


async def test_too_many_contexts_are_refused(sandbox: Sandbox) -> None:
    """A sixth open context closes the socket."""
    async with _socket(sandbox) as socket:
        for number in range(6):
            await _send(socket, text=" ", context_id=f"c{number}")
        assert json.loads(await asyncio.wait_for(socket.recv(), 30))["error"] == "max_active_contexts"


async def test_the_first_audio_takes_as_long_as_told(sandbox: Sandbox) -> None:
    """The latency of speech can be changed while sockets are open."""
    async with _socket(sandbox) as socket:
        sandbox.latency.first_audio_ms = 200
        started = time.monotonic()
        await _send(socket, text=TEXT, context_id="a")
        await asyncio.wait_for(socket.recv(), 30)
    assert time.monotonic() - started >= 0.2


async def test_a_slow_handshake_is_slow_for_one_voice_only(sandbox: Sandbox) -> None:
    """A fault that matches a voice id delays that voice's socket, and no other."""
    sandbox.faults.add(Fault(server="elevenlabs", kind="slow", match="/slow-one/", delay_ms=2000))
    connected: list[str] = []

    async def connect(voice: str) -> None:
        async with _socket(sandbox, voice):
            connected.append(voice)

    started = time.monotonic()
    slow = asyncio.create_task(connect("slow-one"))
    await connect("quick-one")
    await slow
    assert time.monotonic() - started >= 2.0
    assert connected == ["quick-one", "slow-one"]


async def test_a_hanging_handshake_does_not_come_through(sandbox: Sandbox) -> None:
    """A fault of the kind `hang` at the handshake accepts the connection and says nothing."""
    sandbox.faults.add(Fault(server="elevenlabs", kind="hang"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_socket(sandbox), 0.3)
    assert sandbox.usage.tally("elevenlabs").opened == 0


async def test_an_open_socket_can_be_dropped(sandbox: Sandbox) -> None:
    """A fault of the kind `drop` at stage `message` cuts a socket that was working, without a close frame."""
    async with _socket(sandbox) as socket:
        await _send(socket, text=TEXT, context_id="a")
        await asyncio.wait_for(socket.recv(), 30)
        sandbox.faults.add(Fault(server="elevenlabs", kind="drop", stage="message", match="Again", count=1))
        await _send(socket, text="Again, please.", context_id="a")
        with pytest.raises(websockets.ConnectionClosedError):
            await _until_final(socket)
    assert socket.close_code == 1006


async def test_idle_sockets_can_be_severed(sandbox: Sandbox) -> None:
    """The open sockets of one voice are aborted at once, and only those."""
    async with _socket(sandbox, "anna") as lost, _socket(sandbox, "bert") as kept:
        assert sandbox.usage.sever("elevenlabs", "anna") == 1
        await asyncio.wait_for(lost.wait_closed(), 30)
        await _send(kept, text=TEXT, context_id="a")
        assert json.loads(await asyncio.wait_for(kept.recv(), 30))["audio"]
    assert lost.close_code == 1006


async def test_a_limit_reached_while_speaking_is_told_over_the_socket(sandbox: Sandbox) -> None:
    """A fault of the kind `rate_limited` at stage `message` sends ElevenLabs' error and closes with 1008."""
    sandbox.faults.add(Fault(server="elevenlabs", kind="rate_limited", stage="message"))
    async with _socket(sandbox) as socket:
        await _send(socket, text=TEXT, context_id="a")
        refusal = json.loads(await asyncio.wait_for(socket.recv(), 30))
        assert refusal["error"] == "too_many_concurrent_requests"
        await socket.wait_closed()
    assert socket.close_code == 1008


async def test_sockets_are_counted_by_voice(sandbox: Sandbox) -> None:
    """For each voice the usage lists the sockets, when they were opened, how many are open, and the texts."""
    async with _socket(sandbox, "anna"), _socket(sandbox, "bert") as socket:
        await _send(socket, text=TEXT, context_id="a", close_context=True)
        await _until_final(socket)
        assert sandbox.usage.tally("elevenlabs").open == 2
    async with asyncio.timeout(30):
        while sandbox.usage.tally("elevenlabs").open:
            await asyncio.sleep(0.01)
    tally = sandbox.usage.tally("elevenlabs", "bert")
    assert (tally.opened, tally.open, tally.requests, tally.characters) == (1, 0, 1, len(TEXT))
    [connection] = sandbox.usage.connections("elevenlabs", "anna")
    assert connection.closed_at is not None
    assert connection.opened_at <= connection.closed_at
