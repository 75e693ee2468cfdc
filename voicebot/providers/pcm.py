"""16-bit mono PCM: its size, its duration, and its conversion to another sample rate."""

from __future__ import annotations

from audioop import minmax
from math import gcd

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import AudioRawFrame

_PEAK = 32767.0
_TAPS_PER_STEP = 7


def bytes_per_ms(sample_rate: int) -> int:
    """How many bytes a millisecond has at a rate in Hz, which is a multiple of 1,000."""
    return sample_rate * 2 // 1000


def duration_ms(frame: AudioRawFrame) -> float:
    """The duration of a frame, in ms."""
    return len(frame.audio) / bytes_per_ms(frame.sample_rate)


def peak_to_peak(audio: bytes) -> int:
    """The difference of the highest and the lowest sample; an odd last byte is ignored."""
    low, high = minmax(audio[: len(audio) // 2 * 2], 2) if len(audio) > 1 else (0, 0)
    return high - low


class Resampler:
    """Converts a stream from one sample rate to another, piece by piece, with a delay of one millisecond.

    The filter is a short low-pass: good enough for speech, and cheap enough for the event loop (20 ms of
    audio take less than 0.1 ms). pipecat's resampler holds back 64 ms and more of a stream.

    Samples that do not make a whole step (3 samples of 24,000 Hz are 2 of 16,000 Hz) wait for the next piece.
    """

    def __init__(self, rate: int, wanted: int) -> None:
        """Nothing was heard before the first piece. Rates are in Hz; equal ones leave the audio as it is."""
        common = gcd(rate, wanted)
        self._up, self._down = wanted // common, rate // common
        self._filter = _low_pass(max(self._up, self._down)) * self._up
        self._before = np.zeros(len(self._filter) - 1)
        self._rest = np.zeros(0)

    def process(self, audio: bytes) -> bytes:
        """The piece at the wanted rate."""
        if self._up == self._down:
            return audio
        samples = np.frombuffer(audio[: len(audio) // 2 * 2], dtype="<i2")
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // self._down * self._down
        joined, self._rest = joined[:whole], joined[whole:]
        if not whole:
            return b""
        spread = np.zeros(self._up * whole)
        spread[:: self._up] = joined
        heard = np.concatenate([self._before, spread])
        self._before = heard[len(heard) - len(self._before) :]
        return _pcm(np.convolve(heard, self._filter, "valid")[:: self._down])


def _low_pass(factor: int) -> NDArray[np.float64]:
    """A filter that keeps what is below the lower one of two rates, the higher one divided by `factor`."""
    taps = _TAPS_PER_STEP * factor + 1 - (_TAPS_PER_STEP * factor) % 2
    place = np.arange(taps) - (taps - 1) / 2
    window = np.sinc(place / factor) * np.hamming(taps)
    return np.asarray(window / window.sum(), dtype=np.float64)


def _pcm(samples: NDArray[np.float64]) -> bytes:
    return bytes(np.clip(np.rint(samples), -_PEAK, _PEAK).astype("<i2").tobytes())
