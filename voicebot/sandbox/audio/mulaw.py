"""µ-law (ITU-T G.711) encoding and decoding, vectorised; Twilio's media streams use it.

The module `audioop` of the standard library was removed in Python 3.13.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
"""Mono 16-bit samples; their rate is 8,000 Hz everywhere in the sandbox's carrier."""

SILENCE = 0xFF
"""The byte that decodes to 0."""

_BIAS = 0x84
_CLIP = 32635


def _decoding_table() -> Samples:
    code = ~np.arange(256, dtype=np.uint8)
    exponent = ((code >> 4) & 0x07).astype(np.int32)
    mantissa = (code & 0x0F).astype(np.int32)
    magnitude = (((mantissa << 3) + _BIAS) << exponent) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _encoding_table() -> NDArray[np.uint8]:
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.abs(samples), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    code = np.where(samples < 0, 0x80, 0) | (exponent << 4) | mantissa
    return np.asarray(~code & 0xFF, dtype=np.uint8)


_DECODED = _decoding_table()
_ENCODED = _encoding_table()


def encode(samples: Samples) -> bytes:
    """Compress 16-bit samples to one µ-law byte each."""
    return _ENCODED[samples.view(np.uint16)].tobytes()


def decode(code: bytes) -> Samples:
    """Expand µ-law bytes to 16-bit samples."""
    return _DECODED[np.frombuffer(code, dtype=np.uint8)]


def through_the_line(samples: Samples) -> Samples:
    """Return the samples as the other end of a µ-law line hears them."""
    return _DECODED[_ENCODED[samples.view(np.uint16)]]


def samples_of(pcm: bytes) -> Samples:
    """Read mono 16-bit little-endian PCM.

    Raises:
        ValueError: an odd number of bytes; trying again does not help.
    """
    return np.frombuffer(pcm, dtype="<i2").astype(np.int16)
