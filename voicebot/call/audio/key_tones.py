"""Keys of a telephone as tones in the audio (DTMF, ITU-T Q.23), for systems that are controlled by keys.

Carriers' media streams have no message for keys that we press. Q.24 has receivers recognise 40 ms of a tone
and 40 ms between two; more is sent, because the audio may pass codecs. The level is that of a telephone.
"""

from __future__ import annotations

import numpy as np

from voicebot.providers.pcm import bytes_per_ms

TONE_MS = 100
GAP_MS = 100
PAUSE_MS = 500
PAUSE = "w"
"""In a row of keys: half a second of silence, for a system that is not ready at once."""

_ROWS_HZ = (697, 770, 852, 941)
_COLUMNS_HZ = (1209, 1336, 1477, 1633)
_KEYPAD = ("123A", "456B", "789C", "*0#D")
_LOW, _HIGH = 8000, 9500
"""Peaks of the two tones of a key: about -9 and -7.5 dBm0. Lines weaken the higher one more."""
_FADE_MS = 2


def key_tones(keys: str, sample_rate: int) -> bytes:
    """Keys of `0123456789*#ABCD` and pauses as 16-bit mono PCM; a gap is behind each key.

    Raises:
        ValueError: there is no such key.
    """
    return b"".join(_sound(key, sample_rate) for key in keys)


def _sound(key: str, sample_rate: int) -> bytes:
    if key == PAUSE:
        return bytes(PAUSE_MS * bytes_per_ms(sample_rate))
    place = next(((row, line.find(key)) for row, line in enumerate(_KEYPAD) if key in line), None)
    if place is None:
        raise ValueError(f"there is no key {key!r}")
    time_s = np.arange(TONE_MS * sample_rate // 1000) / sample_rate
    low = _LOW * np.sin(2 * np.pi * _ROWS_HZ[place[0]] * time_s)
    high = _HIGH * np.sin(2 * np.pi * _COLUMNS_HZ[place[1]] * time_s)
    position_ms = time_s * 1000
    envelope = np.clip(np.minimum(position_ms, TONE_MS - position_ms) / _FADE_MS, 0.0, 1.0)
    samples = ((low + high) * envelope).astype("<i2")
    return bytes(samples.tobytes() + bytes(GAP_MS * bytes_per_ms(sample_rate)))
