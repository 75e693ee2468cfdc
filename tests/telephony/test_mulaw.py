"""Decoding of µ-law: telephony.mulaw."""

from __future__ import annotations

import numpy as np

from telephony.mulaw import decode
from voicebot.sandbox.audio import mulaw


def test_every_code_has_the_sample_of_g711() -> None:
    """The 256 codes decode to the samples of ITU-T G.711, as 16-bit little-endian PCM."""
    codes = bytes(range(256))
    samples = np.frombuffer(decode(codes), "<i2")
    assert (samples[0x00], samples[0x7F], samples[0x80], samples[0xFF]) == (-32124, 0, 32124, 0)
    assert samples.tolist() == mulaw.decode(codes).tolist()
    assert decode(b"") == b""
