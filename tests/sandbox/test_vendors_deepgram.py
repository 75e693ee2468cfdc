"""The Deepgram server, through Deepgram's own client and over its bare websocket."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
import websockets
from deepgram import AsyncDeepgramClient, DeepgramClientEnvironment
from deepgram.core.events import EventType
from deepgram.listen.v1.types import (
    ListenV1CloseStream,
    ListenV1Metadata,
    ListenV1Results,
    ListenV1SpeechStarted,
    ListenV1UtteranceEnd,
)

from tests.sandbox.conftest import PHRASES
from voicebot.sandbox.audio.mulaw import encode, samples_of
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.speech.synthesis import synthesize
from voicebot.sandbox.vendors.faults import Fault

BILL = PHRASES[0]
CALLER = "caller-2"


def _silence(ms: int) -> bytes:
    return b"\0" * (ms * 16)


def _said(*phrases: str, pause_ms: int = 1500) -> bytes:
    """Phrases in one voice, each after 200 ms and before a pause; PCM at 8,000 Hz."""
    return b"".join(_silence(200) + synthesize(phrase, CALLER) + _silence(pause_ms) for phrase in phrases)


def _connect(sandbox: Sandbox, query: str, key: str = "") -> Any:
    url = sandbox.urls.deepgram.replace("http", "ws")
    return websockets.connect(
        f"{url}/v1/listen?model=nova-3&encoding=linear16&sample_rate=8000&{query}",
        additional_headers={"Authorization": f"Token {key or sandbox.env['DEEPGRAM_API_KEY']}"},
    )


async def _listen(sandbox: Sandbox, audio: bytes, query: str, *orders: str) -> list[dict[str, Any]]:
    """Send audio in 20 ms, then orders, then CloseStream; return everything that is answered."""
    async with _connect(sandbox, query) as socket:
        for start in range(0, len(audio), 320):
            await socket.send(audio[start : start + 320])
        for order in (*orders, "CloseStream"):
            await socket.send(json.dumps({"type": order}))
        return [json.loads(message) async for message in socket]


def _final(messages: Sequence[dict[str, Any]]) -> list[str]:
    results = [m for m in messages if m["type"] == "Results" and m["is_final"]]
    return [m["channel"]["alternatives"][0]["transcript"] for m in results]


async def test_deepgrams_client_understands_what_it_is_told(sandbox: Sandbox) -> None:
    """Every kind of message is parsed into its own type by the deepgram package."""
    url = sandbox.urls.deepgram
    environment = DeepgramClientEnvironment(
        base=url, production=url.replace("http", "ws"), agent=url, agent_rest=url
    )
    client = AsyncDeepgramClient(api_key=sandbox.env["DEEPGRAM_API_KEY"], environment=environment)
    heard: list[Any] = []
    async with client.listen.v1.connect(
        model="nova-3",
        encoding="linear16",
        sample_rate="8000",
        interim_results="true",
        endpointing="300",
        punctuate="true",
        vad_events="true",
        utterance_end_ms="1000",
    ) as connection:
        connection.on(EventType.MESSAGE, heard.append)
        listening = asyncio.create_task(connection.start_listening())
        audio = _said(BILL)
        for start in range(0, len(audio), 320):
            await connection.send_media(audio[start : start + 320])
        await connection.send_close_stream(ListenV1CloseStream(type="CloseStream"))
        await asyncio.wait_for(listening, 30)
    kinds = {type(message) for message in heard}
    assert kinds == {ListenV1SpeechStarted, ListenV1Results, ListenV1UtteranceEnd, ListenV1Metadata}
    [final] = [m for m in heard if isinstance(m, ListenV1Results) and m.is_final]
    assert final.channel.alternatives[0].transcript == BILL
    assert final.speech_final is True
    assert sandbox.usage.tally("deepgram", "nova-3").opened == 1


async def test_phrases_are_heard_one_by_one(sandbox: Sandbox) -> None:
    """Each phrase of a stream is final once, in order, punctuated as its author wrote it."""
    messages = await _listen(sandbox, _said(*PHRASES), "endpointing=300&punctuate=true")
    assert _final(messages) == list(PHRASES)


async def test_without_punctuate_words_are_bare(sandbox: Sandbox) -> None:
    """Without punctuation the transcript is in lower case without signs."""
    [text] = _final(await _listen(sandbox, _said(BILL), "endpointing=300"))
    assert text == "i have a question about my bill"


async def test_mulaw_is_heard_as_well(sandbox: Sandbox) -> None:
    """µ-law at 8,000 Hz, as a telephone line has it, is understood."""
    url = sandbox.urls.deepgram.replace("http", "ws")
    audio = encode(samples_of(_said(BILL)))
    async with websockets.connect(
        f"{url}/v1/listen?encoding=mulaw&sample_rate=8000&punctuate=true&endpointing=300",
        additional_headers={"Authorization": f"Token {sandbox.env['DEEPGRAM_API_KEY']}"},
    ) as socket:
        for start in range(0, len(audio), 160):
            await socket.send(audio[start : start + 160])
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
    assert message["channel"]["alternatives"][0]["transcript"] == BILL


async def test_times_count_from_the_start_of_the_stream(sandbox: Sandbox) -> None:
    """Words lie in order within the speech, whose start and last word are reported."""
    query = "endpointing=300&vad_events=true&utterance_end_ms=1000&interim_results=true"
    messages = await _listen(sandbox, _silence(1000) + _said(BILL), query)
    speech_ends = 1.2 + len(synthesize(BILL, CALLER)) / 16000
    [started] = [m for m in messages if m["type"] == "SpeechStarted"]
    [ended] = [m for m in messages if m["type"] == "UtteranceEnd"]
    [final] = [m for m in messages if m["type"] == "Results" and m["is_final"]]
    words = final["channel"]["alternatives"][0]["words"]
    times = [time for word in words for time in (word["start"], word["end"])]
    assert started["timestamp"] == pytest.approx(1.2, abs=0.1)
    assert times == sorted(times)
    assert words[0]["start"] == pytest.approx(1.2, abs=0.25)
    assert words[-1]["end"] == pytest.approx(speech_ends, abs=0.25)
    assert ended["last_word_end"] == words[-1]["end"]


async def test_interim_results_grow_and_are_not_final(sandbox: Sandbox) -> None:
    """With interim_results words are sent while they are said; without, only at the end."""
    messages = await _listen(sandbox, _said(BILL), "endpointing=300&interim_results=true")
    interim = [m for m in messages if m["type"] == "Results" and not m["is_final"]]
    assert len(interim) >= 3
    assert not any(m["speech_final"] for m in interim)
    quiet = await _listen(sandbox, _said(BILL), "endpointing=300")
    assert [m["type"] for m in quiet] == ["Results", "Metadata"]


async def test_endpointing_waits_for_as_long_a_pause_as_told(sandbox: Sandbox) -> None:
    """A pause of 500 ms divides two phrases at endpointing=300 and joins them at endpointing=900."""
    audio = _said(*PHRASES[:2], pause_ms=300) + _silence(1500)
    assert len(_final(await _listen(sandbox, audio, "endpointing=300"))) == 2
    assert len(_final(await _listen(sandbox, audio, "endpointing=900"))) == 1


async def test_finalize_answers_at_once(sandbox: Sandbox) -> None:
    """Finalize closes what is being said with from_finalize; when it is quiet the answer has no words."""
    speech = _silence(200) + synthesize(BILL, CALLER)
    messages = await _listen(sandbox, speech, "endpointing=2000&punctuate=true", "Finalize", "Finalize")
    results = [m for m in messages if m["type"] == "Results"]
    assert [m["from_finalize"] for m in results] == [True, True]
    assert _final(messages) == [BILL, ""]
    assert not any(m["speech_final"] for m in results)


async def test_closing_tells_what_was_still_being_said(sandbox: Sandbox) -> None:
    """CloseStream in the middle of a pause gives the words first and Metadata with the duration last."""
    speech = _silence(200) + synthesize(BILL, CALLER)
    messages = await _listen(sandbox, speech, "endpointing=2000&punctuate=true")
    assert _final(messages) == [BILL]
    assert messages[-1]["type"] == "Metadata"
    assert messages[-1]["duration"] == pytest.approx(len(speech) / 16000, abs=0.02)


async def test_other_phrases_can_be_expected_while_it_runs(sandbox: Sandbox) -> None:
    """New phrases count from the next utterance on, with words that no dictionary has."""
    async with _connect(sandbox, "endpointing=300&punctuate=true") as socket:
        await sandbox.expect(["My name is Zyrta Quendolin.", "I live in Brambleford."])
        audio = _said("My name is Zyrta Quendolin.")
        for start in range(0, len(audio), 320):
            await socket.send(audio[start : start + 320])
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
    assert message["channel"]["alternatives"][0]["transcript"] == "My name is Zyrta Quendolin."


async def test_without_phrases_nothing_is_understood() -> None:
    """With no phrases to expect, speech is noticed and has no words."""
    async with Sandbox() as sandbox:
        messages = await _listen(sandbox, _said(BILL), "endpointing=300&vad_events=true")
    assert [m["type"] for m in messages] == ["SpeechStarted", "Results", "Metadata"]
    assert _final(messages) == [""]


async def test_a_wrong_key_and_a_wrong_request_are_refused(sandbox: Sandbox) -> None:
    """Another key gets 401, an encoding it does not know or no rate 400."""
    for query, key, status in (("", "wrong", 401), ("encoding=opus", "", 400), ("endpointing=soon", "", 400)):
        with pytest.raises(websockets.InvalidStatus) as rejected:
            await _connect_with(sandbox, query, key)
        assert rejected.value.response.status_code == status


async def _connect_with(sandbox: Sandbox, query: str, key: str) -> None:
    url = sandbox.urls.deepgram.replace("http", "ws")
    await websockets.connect(
        f"{url}/v1/listen?{query or 'encoding=linear16'}&sample_rate=8000",
        additional_headers={"Authorization": f"Token {key or sandbox.env['DEEPGRAM_API_KEY']}"},
    )


async def test_an_error_while_listening_is_told_over_the_socket(sandbox: Sandbox) -> None:
    """A fault of the kind `broken` at stage `message` sends Deepgram's Error and closes with 1011."""
    sandbox.faults.add(Fault(server="deepgram", kind="broken", stage="message"))
    async with _connect(sandbox, "endpointing=300") as socket:
        await socket.send(_said(BILL))
        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
        await socket.wait_closed()
    assert message["type"] == "Error"
    assert socket.close_code == 1011


async def test_many_callers_are_heard_at_once(sandbox: Sandbox) -> None:
    """Twelve streams at the same time are all understood."""
    query = "endpointing=300&punctuate=true"
    audio = _said(BILL)
    heard = await asyncio.gather(*(_listen(sandbox, audio, query) for _ in range(12)))
    assert [_final(messages) for messages in heard] == [[BILL]] * 12
