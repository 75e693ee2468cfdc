"""The page on which an operator takes a call over, in a headless Chromium."""

from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.server_fixture import http_client
from tests.calls.chromium import CHROMIUM, Page, opened
from tests.calls.harness import CallHarness, hear
from tests.calls.takeover_desk import TONE_HZ, Desk, sine, strength
from voicebot.sandbox.audio.mulaw import samples_of
from voicebot.sandbox.caller import HangUp, WaitFor
from voicebot.sandbox.carrier import Call
from voicebot.sandbox.speech.scripted import pitch_hz, tone_pcm

RATE = 16_000
WORDS = "I would like my money back."

LOUDEST_HZ = """
(() => {
  const { context, playback } = globalThis.takeoverAudio;
  if (!globalThis.analyser) {
    globalThis.analyser = context.createAnalyser();
    analyser.fftSize = 8192;
    analyser.smoothingTimeConstant = 0;
    playback.connect(analyser);
  }
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const loudest = bins.reduce((best, value, index) => (value > bins[best] ? index : best), 0);
  return bins[loudest] > -60 ? (loudest * context.sampleRate) / analyser.fftSize : 0;
})()
"""


async def test_the_page_is_served_with_a_policy(harness: CallHarness) -> None:
    """The page and its scripts are served to anybody, and may run nothing that is not of this server."""
    async with http_client(base_url=harness.server.url) as anybody:
        first = await anybody.get("/console")
        assert (first.status_code, first.headers["location"]) == (307, "/console/takeover.html")
        for name in ("takeover.html", "takeover.js", "takeover.css", "audio.js"):
            answer = await anybody.get(f"/console/{name}")
            assert answer.status_code == 200, name
            assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert (await anybody.get("/console/__init__.py")).status_code == 404


async def state(page: Page, expected: str) -> None:
    """Wait until the page shows a state."""
    await page.until(f"document.getElementById('status').dataset.state === {json.dumps(expected)}")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


async def heard_in_the_browser(page: Page, call: Call, voice_id: str) -> None:
    """Let the caller speak until the loudest frequency in the browser is the pitch of their voice."""
    words, pitch = samples_of(tone_pcm(WORDS, voice_id)), pitch_hz(voice_id)
    async with asyncio.timeout(60):
        while True:
            if call.line.said.cursor < call.line.now() + 4000:
                call.say(words)
            if abs(await page.evaluate(LOUDEST_HZ) / pitch - 1) < 0.05:
                return
            await asyncio.sleep(0.05)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH: apt-get install chromium")
async def test_a_browser_takes_a_call_over(harness: CallHarness, tmp_path: Path) -> None:
    """Listen, speak, give back: each side's tone is recognised at the other one, and none while muted."""
    microphone = tmp_path / "microphone.wav"
    with wave.open(str(microphone), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sine(TONE_HZ, RATE, 2.0))
    desk = Desk(harness)
    given_back = asyncio.Event()
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call, person = desk.call(WaitFor(event=given_back, timeout_ms=200_000), hear(), HangUp(), to=number)
    await desk.ask(call)
    async with opened(f"{harness.server.url}/console/takeover.html?processing=off", microphone) as page:
        await page.until("document.readyState === 'complete' && document.getElementById('key') !== null")
        key = json.dumps(harness.tenant.keys["operator"])
        await page.evaluate(f"document.getElementById('key').value = {key}")
        await page.click("#sign-in button")
        await page.click(f"[data-handoff='{desk.handoff['id']}']")
        await state(page, "claimed")
        await page.click("#listen")
        await state(page, "listening")
        await page.until("document.getElementById('spoken').value > 0.1")
        muted = call.recording().received[-4000:]
        assert strength(muted, TONE_HZ, 8000) < 0.1
        await page.click("#speak")
        await desk.until("bridged")
        await until(lambda: strength(call.recording().received[-4000:], TONE_HZ, 8000) > 0.5)
        await heard_in_the_browser(page, call, person.voice_id)
        await page.click("#return")
        await state(page, "left")
        given_back.set()
    await call.ended()
    got = await harness.facts(call, person)
    assert got.outcome.ok, got.outcome.failure
    assert await desk.state() == ("resolved", "returned")
