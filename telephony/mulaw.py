"""µ-law (ITU-T G.711), the audio of North American telephony."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BIAS = 0x84
_CLIP = 32635


def _linear(code: int) -> int:
    """The 16-bit sample of one µ-law byte."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + _BIAS << ((code & 0x70) >> 4)) - _BIAS
    return -magnitude if code & 0x80 else magnitude


def _codes() -> NDArray[np.uint8]:
    """The µ-law byte of each 16-bit sample, in the order of the samples as unsigned numbers."""
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.abs(samples), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    code = np.where(samples < 0, 0x80, 0) | (exponent << 4) | mantissa
    return np.asarray(~code & 0xFF, dtype=np.uint8)


_SAMPLES = np.array([_linear(code) for code in range(256)], dtype="<i2")
_CODES = _codes()


def decode(code: bytes) -> bytes:
    """Turn µ-law into 16-bit little-endian PCM of the same rate."""
    return _SAMPLES.take(np.frombuffer(code, np.uint8)).tobytes()


def encode(pcm: bytes) -> bytes:
    """Turn 16-bit little-endian PCM into µ-law of the same rate."""
    return _CODES.take(np.frombuffer(pcm, np.dtype("<u2"))).tobytes()
