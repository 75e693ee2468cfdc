"""Recordings of authors: what can be played, and how it sounds at the rate of a call."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from handlers.http import HttpResponse
from handlers.http.errors import AddressRefused
from tests.handoffs.fixtures import ManualClock
from voicebot.call.audio.recordings import KEPT_MS, Recordings, UnusableRecording, decode

URL = "https://example.com/hold.wav"


def wav(rate: int, *, width: int = 2, channels: int = 1, hz: float = 440.0, seconds: float = 1.0) -> bytes:
    """A WAV file with a tone at half of the full scale."""
    tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)
    samples = (tone * 32767).astype("<i2") if width == 2 else (tone * 127 + 128).astype("u1")
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setparams((channels, width, rate, 0, "NONE", ""))
        opened.writeframes(np.repeat(samples, channels).tobytes())
    return file.getvalue()


@pytest.mark.parametrize("wanted", [8000, 16_000, 24_000])
@pytest.mark.parametrize(("rate", "width", "channels"), [(8000, 2, 1), (44_100, 2, 2), (16_000, 1, 1)])
def test_a_wav_is_played_at_the_rate_of_the_call(rate: int, width: int, channels: int, wanted: int) -> None:
    """Whatever the rates, the width and the channels, the tone has its pitch, its length and its level."""
    samples = np.frombuffer(decode(wav(rate, width=width, channels=channels), wanted), "<i2").astype(float)
    assert len(samples) == pytest.approx(wanted, abs=wanted // 4000)
    assert np.abs(np.fft.rfft(samples)).argmax() == pytest.approx(440, abs=1)
    assert samples.std() == pytest.approx(0.5 * 32767 / 2**0.5, rel=0.05)


def test_what_a_telephone_cannot_carry_does_not_come_back_as_another_tone() -> None:
    """A tone of 6 kHz at 44.1 kHz is filtered out instead of folded to 2 kHz."""
    samples = np.frombuffer(decode(wav(44_100, hz=6000.0), 8000), "<i2").astype(float)
    assert samples.std() < 0.05 * 0.5 * 32767


@pytest.mark.parametrize("file", [b"", b"RIFF", b"\0" * 500, wav(8000, seconds=0.05), wav(2000)])
def test_what_cannot_be_played_is_refused(file: bytes) -> None:
    """No WAV file, a rate below 4 kHz, or less than 100 ms."""
    with pytest.raises(UnusableRecording):
        decode(file, 8000)


async def test_a_recording_is_downloaded_once_in_ten_minutes() -> None:
    """Later calls use the same one; after ten minutes it is downloaded again."""
    asked, clock = [], ManualClock()

    async def download(url: str, _limit: int, _timeout_ms: int) -> HttpResponse:
        asked.append(url)
        return HttpResponse(status=200, content_type="", content_encoding="", body=wav(8000), complete=True)

    recordings = Recordings(download, clock)
    assert await recordings.get(URL, 8000) == await recordings.get(URL, 8000) == decode(wav(8000), 8000)
    clock.advance(milliseconds=KEPT_MS)
    await recordings.get(URL, 8000)
    assert asked == [URL, URL]


async def test_a_recording_that_cannot_be_had_is_none() -> None:
    """An error status, a file that is too large, or a private address: the tone is played instead."""

    async def refused(_url: str, _limit: int, _timeout_ms: int) -> HttpResponse:
        raise AddressRefused

    async def too_large(_url: str, limit: int, _timeout_ms: int) -> HttpResponse:
        return HttpResponse(
            status=200, content_type="", content_encoding="", body=wav(8000)[:limit], complete=False
        )

    for download in (refused, too_large):
        assert await Recordings(download, ManualClock()).get(URL, 8000) is None
