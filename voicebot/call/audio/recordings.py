"""Recordings of authors that are played on calls: WAV files, downloaded once and kept for some minutes."""

from __future__ import annotations

import asyncio
import io
import wave
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from handlers.http import HttpFailure, HttpResponse
from voicebot.clock import Clock

MAX_BYTES = 2 * 1024 * 1024
MAX_MS = 60_000
"""How much of a recording is played before it begins again."""
TIMEOUT_MS = 5000
KEPT_MS = 600_000.0
KEPT = 32
_TAPS = 64

Download = Callable[[str, int, int], Awaitable[HttpResponse]]
"""Downloads a URL, at most so many bytes in so many ms."""


class UnusableRecording(Exception):
    """The file is not a WAV file that can be played."""


@dataclass(frozen=True, slots=True)
class _Kept:
    pcm: bytes
    at_ms: float


class Recordings:
    """The recordings of a process."""

    def __init__(self, download: Download, clock: Clock) -> None:
        """Get files by ``download``."""
        self._download = download
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()

    async def get(self, url: str, sample_rate: int) -> bytes | None:
        """The recording at a URL as 16-bit mono PCM at a rate in Hz; None, with a warning: it is unusable."""
        key = url, sample_rate
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic_ms() - kept.at_ms < KEPT_MS:
            return kept.pcm
        try:
            pcm = await self._load(url, sample_rate)
        except (HttpFailure, UnusableRecording) as error:
            logger.warning("a recording for waiting callers is not played: {}", error)
            return None
        self._kept[key] = _Kept(pcm, self._clock.monotonic_ms())
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return pcm

    async def _load(self, url: str, sample_rate: int) -> bytes:
        response = await self._download(url, MAX_BYTES, TIMEOUT_MS)
        if response.status != 200 or not response.complete:
            raise UnusableRecording(f"status {response.status}, or more than {MAX_BYTES} bytes")
        return await asyncio.to_thread(decode, response.body, sample_rate)


def decode(file: bytes, sample_rate: int) -> bytes:
    """A WAV file of 8 or 16 bit PCM as 16-bit mono PCM at a rate in Hz, at most ``MAX_MS`` long.

    Raises:
        UnusableRecording: it is no such file, or shorter than 100 ms.
    """
    try:
        with wave.open(io.BytesIO(file)) as opened:
            rate, width, channels = opened.getframerate(), opened.getsampwidth(), opened.getnchannels()
            if width not in (1, 2) or not 4000 <= rate <= 96_000 or not 1 <= channels <= 8:
                raise UnusableRecording("it is not PCM of 8 or 16 bit at 4 to 96 kHz")
            frames = opened.readframes(rate * MAX_MS // 1000)
    except (wave.Error, EOFError) as error:
        raise UnusableRecording(f"it is not a WAV file of PCM: {error}") from None
    whole = len(frames) // (width * channels) * width * channels
    kind, offset, scale = ("<i2", 0.0, 1.0) if width == 2 else ("u1", 128.0, 256.0)
    samples = (np.frombuffer(frames[:whole], kind).astype(np.float32) - offset) * scale
    mono = samples.reshape(-1, channels).mean(axis=1)
    if len(mono) * 10 < rate:
        raise UnusableRecording("it is shorter than 100 ms")
    return bytes(np.clip(_resampled(mono, rate, sample_rate), -32768, 32767).astype("<i2").tobytes())


def _resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """``samples`` at the wanted rate: without what it cannot carry, then interpolated."""
    if rate == wanted:
        return samples
    if rate > wanted:
        cutoff = 0.9 * wanted / rate
        kernel = np.sinc(cutoff * (np.arange(_TAPS + 1) - _TAPS / 2)) * np.hamming(_TAPS + 1)
        samples = np.convolve(samples, (kernel / kernel.sum()).astype(np.float32), mode="same")
    times = np.arange(len(samples) * wanted // rate) * (rate / wanted)
    return np.asarray(np.interp(times, np.arange(len(samples)), samples), np.float32)
