"""µ-law: telephony.mulaw."""

from __future__ import annotations

import numpy as np

from telephony.mulaw import decode, encode
from voicebot.sandbox.audio import mulaw


def test_every_code_has_the_sample_of_g711() -> None:
    """The 256 codes decode to the samples of ITU-T G.711, as 16-bit little-endian PCM."""
    codes = bytes(range(256))
    samples = np.frombuffer(decode(codes), "<i2")
    assert (samples[0x00], samples[0x7F], samples[0x80], samples[0xFF]) == (-32124, 0, 32124, 0)
    assert samples.tolist() == mulaw.decode(codes).tolist()
    assert decode(b"") == b""


def test_every_sample_has_the_code_of_g711() -> None:
    """Each of the 65,536 samples has the code of the sandbox's carrier or, on a limit, the next one."""
    samples = np.arange(-32768, 32768, dtype="<i2")
    ours, carriers = (
        np.frombuffer(code, np.uint8).astype(int)
        for code in (encode(samples.tobytes()), mulaw.encode(samples))
    )
    assert abs(ours - carriers).max() <= 1
    assert (ours != carriers).mean() < 0.01
    codes = bytes(code for code in range(256) if code != 0x7F)  # 0x7F and 0xFF are both silence
    assert encode(decode(codes)) == codes
