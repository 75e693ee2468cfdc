"""µ-law (ITU-T G.711), the audio of North American telephony, of the same rate as the PCM."""

from __future__ import annotations

from audioop import lin2ulaw, ulaw2lin


def decode(code: bytes) -> bytes:
    """Turn µ-law into 16-bit PCM."""
    return ulaw2lin(code, 2)


def encode(pcm: bytes) -> bytes:
    """Turn 16-bit PCM, of whole samples, into µ-law."""
    return lin2ulaw(pcm, 2)
