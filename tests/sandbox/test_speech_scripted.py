"""Scripted speech: announced transcripts from the Deepgram stand-in, tones from the ElevenLabs stand-in."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
import websockets

from voicebot.sandbox.audio.measurement import fingerprint
from voicebot.sandbox.audio.mulaw import encode, samples_of, through_the_line
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.speech.scripted import ScriptedTranscripts, pitch_hz, tone, tone_pcm
from voicebot.sandbox.speech.synthesis import voice_of
from voicebot.sandbox.vendors.latency import Latency

VOICES = [f"voice-{number}" for number in range(40)]


@pytest.fixture
async def scripted() -> AsyncIterator[Sandbox]:
    """A sandbox with scripted speech."""
    async with Sandbox(scripted_speech=True, latency=Latency(first_audio_ms=1, audio_ms=0)) as it:
        yield it


async def _transcribe(sandbox: Sandbox, pcm: bytes) -> list[dict[str, Any]]:
    """Send audio in messages of 20 ms, and return the answers."""
    url = sandbox.urls.deepgram.replace("http", "ws")
    query = "model=nova-3&encoding=mulaw&sample_rate=8000&interim_results=true&endpointing=300&punctuate=true"
    headers = {"Authorization": f"Token {sandbox.env['DEEPGRAM_API_KEY']}"}
    audio = encode(samples_of(pcm))
    async with websockets.connect(f"{url}/v1/listen?{query}", additional_headers=headers) as socket:
        for start in range(0, len(audio), 160):
            await socket.send(audio[start : start + 160])
        await socket.send(json.dumps({"type": "CloseStream"}))
        return [json.loads(message) async for message in socket]


def _texts(messages: list[dict[str, Any]], *, final: bool) -> list[str]:
    results = [m for m in messages if m["type"] == "Results" and m["is_final"] is final]
    return [m["channel"]["alternatives"][0]["transcript"] for m in results]


def _silence(ms: int) -> bytes:
    return b"\0" * (ms * 16)


async def test_announced_texts_are_returned_in_order(scripted: Sandbox) -> None:
    """Each stretch of speech takes the next announced text, with interim results that grow into it."""
    scripted.transcripts.announce("I have a question about my bill.", "Thank you, goodbye.")
    audio = [_silence(200), tone_pcm("any sound of a length", "caller"), _silence(800)]
    messages = await _transcribe(scripted, b"".join(audio * 2))
    assert _texts(messages, final=True) == ["I have a question about my bill.", "Thank you, goodbye."]
    interim = _texts(messages, final=False)
    assert interim[0]
    assert all("I have a question about my bill.".startswith(text) for text in interim[:3])
    assert scripted.transcripts.remaining == 0


async def test_callers_at_once_are_told_apart_by_their_voices(scripted: Sandbox) -> None:
    """Speech takes the text that was announced for its voice, on whichever stream and in whatever order."""
    callers = ("caller-1", "caller-2", "caller-6")
    for voice_id in callers:
        scripted.transcripts.announce(f"This is {voice_id}.", voice_id=voice_id)
    heard = await asyncio.gather(
        *(
            _transcribe(scripted, _silence(200) + tone_pcm("any sound of a length", voice_id) + _silence(800))
            for voice_id in reversed(callers)
        )
    )
    texts = [_texts(messages, final=True) for messages in heard]
    assert texts == [[f"This is {voice_id}."] for voice_id in reversed(callers)]


async def test_words_lie_within_the_audio(scripted: Sandbox) -> None:
    """The times of the words are in order and within the speech, whatever its length."""
    scripted.transcripts.announce("one two three")
    messages = await _transcribe(scripted, _silence(500) + tone_pcm("short", "caller") + _silence(800))
    [final] = [m for m in messages if m["type"] == "Results" and m["is_final"]]
    words = final["channel"]["alternatives"][0]["words"]
    assert [word["word"] for word in words] == ["one", "two", "three"]
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert times[0] >= 0.2
    assert times[-1] <= final["start"] + final["duration"]


async def test_speech_without_an_announcement_has_no_words(scripted: Sandbox) -> None:
    """Speech that was not announced is transcribed as an empty text."""
    messages = await _transcribe(scripted, tone_pcm("Hello there", "caller") + _silence(800))
    assert _texts(messages, final=True) == [""]


def test_announcements_can_be_cleared() -> None:
    """Announced speech that has not begun can be forgotten."""
    transcripts = ScriptedTranscripts()
    transcripts.announce("Hello.")
    transcripts.clear()
    assert transcripts.remaining == 0
    assert transcripts.take().finish() == ()


async def test_elevenlabs_sounds_a_tone(scripted: Sandbox) -> None:
    """Speech over HTTP is the tone of the voice, 65 ms for each character."""
    async with httpx.AsyncClient(headers={"xi-api-key": scripted.env["ELEVENLABS_API_KEY"]}) as client:
        response = await client.post(
            f"{scripted.urls.elevenlabs}/v1/text-to-speech/voice-3?output_format=pcm_8000",
            json={"text": "Billing here."},
        )
    assert response.content == tone_pcm("Billing here.", "voice-3")
    assert len(response.content) / 16 == pytest.approx(13 * 65)


async def test_phrases_are_refused_with_scripted_speech(scripted: Sandbox) -> None:
    """Without a recogniser there are no phrases to set."""
    async with httpx.AsyncClient(base_url=scripted.urls.control) as client:
        assert (await client.get("/phrases")).status_code == 404
        assert (await client.put("/phrases", json={"phrases": ["Hello."]})).status_code == 404


@pytest.mark.parametrize("voice_id", ["voice-3", "voice-8", "voice-17", "voice-19"])
def test_the_pitch_of_a_tone_tells_the_voice(voice_id: str) -> None:
    """The pitch measured after a telephone line is that of the voice within 1 %."""
    heard = fingerprint(through_the_line(samples_of(tone_pcm("Billing here.", voice_id))))
    assert heard.pitch_hz == pytest.approx(pitch_hz(voice_id), rel=0.01)


def test_tones_have_the_order_of_the_real_voices() -> None:
    """A voice that is higher in real speech is higher as a tone, so that tests may use both."""
    by_pitch = sorted(VOICES, key=lambda voice: voice_of(voice).pitch)
    assert all(pitch_hz(low) <= pitch_hz(high) for low, high in pairwise(by_pitch))


def test_a_tone_marks_its_words_and_has_no_pause() -> None:
    """Each word begins at its mark, and no part of the tone is silent."""
    said = tone("two words", "voice-3")
    assert said.marks == ((0, 0.0), (4, 260.0))
    samples = samples_of(said.pcm)
    assert all(abs(samples[start : start + 160]).max() > 200 for start in range(0, len(samples) - 160, 160))


@pytest.mark.parametrize("text", ["", "  ", "...", "?!"])
def test_text_without_words_is_silent(text: str) -> None:
    """Punctuation alone sounds nothing."""
    assert tone(text, "voice-3").pcm == b""
