"""Doubling and halving of the sample rate of a stream of audio, without a delay beyond one millisecond.

The filter is a short half-band low-pass: good enough for speech, and cheap enough for the event loop (20 ms
of audio take less than 50 µs). pipecat's resampler holds back 64 ms and more of a stream.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TAPS = 15
_PEAK = 32767.0


def _half_band() -> NDArray[np.float64]:
    place = np.arange(_TAPS) - (_TAPS - 1) / 2
    taps = np.sinc(place / 2) * np.hamming(_TAPS)
    return np.asarray(taps / taps.sum(), dtype=np.float64)


_FILTER = _half_band()


class DoubleRate:
    """Doubles the sample rate of 16-bit mono PCM, piece by piece."""

    def __init__(self) -> None:
        """Nothing was heard before the first piece."""
        self._before = np.zeros(_TAPS - 1)

    def process(self, audio: bytes) -> bytes:
        """The piece at twice the rate."""
        samples = np.frombuffer(audio[: len(audio) // 2 * 2], dtype="<i2")
        spread = np.zeros(2 * len(samples))
        spread[::2] = samples
        joined = np.concatenate([self._before, spread])
        self._before = joined[len(joined) - _TAPS + 1 :]
        return _pcm(2 * np.convolve(joined, _FILTER, "valid"))


class HalfRate:
    """Halves the sample rate of 16-bit mono PCM, piece by piece; an odd sample waits for the next piece."""

    def __init__(self) -> None:
        """Nothing was heard before the first piece."""
        self._before = np.zeros(_TAPS - 1)
        self._odd = np.zeros(0)

    def process(self, audio: bytes) -> bytes:
        """The piece at half the rate."""
        samples = np.frombuffer(audio[: len(audio) // 2 * 2], dtype="<i2")
        joined = np.concatenate([self._odd, samples])
        even = len(joined) // 2 * 2
        joined, self._odd = joined[:even], joined[even:]
        if not even:
            return b""
        joined = np.concatenate([self._before, joined])
        self._before = joined[len(joined) - _TAPS + 1 :]
        return _pcm(np.convolve(joined, _FILTER, "valid")[::2])


def _pcm(samples: NDArray[np.float64]) -> bytes:
    return bytes(np.clip(np.rint(samples), -_PEAK, _PEAK).astype("<i2").tobytes())
