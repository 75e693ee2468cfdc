"""A receiver of key tones, as ITU-T Q.24 describes one: both tones, alone, for 40 ms at least."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

LOW_HZ, HIGH_HZ = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
KEYPAD = ("123A", "456B", "789C", "*0#D")
FRAME_MS = 20
LEAST_FRAMES = 2


def keys_in(samples: NDArray[np.int16], rate: int = 8000) -> str:
    """The keys that are heard in a sound, in order."""
    size = rate * FRAME_MS // 1000
    frames = [_key(samples[at : at + size].astype(float), rate) for at in range(0, len(samples) - size, size)]
    runs = [(key, len(list(run))) for key, run in groupby(frames)]
    return "".join(key for key, length in runs if key and length >= LEAST_FRAMES)


def _key(frame: NDArray[np.float64], rate: int) -> str:
    """The key of a frame, or nothing: the two tones have nearly all of its power."""
    power = float((frame**2).sum())
    if power < len(frame) * 200.0**2:
        return ""
    time_s = np.arange(len(frame)) / rate

    def part(hz: int) -> float:
        return float(abs((frame * np.exp(-2j * np.pi * hz * time_s)).sum()) ** 2) * 2 / len(frame) / power

    low, high = [part(hz) for hz in LOW_HZ], [part(hz) for hz in HIGH_HZ]
    if max(low) < 0.2 or max(high) < 0.2 or max(low) + max(high) < 0.8:
        return ""
    return KEYPAD[low.index(max(low))][high.index(max(high))]
