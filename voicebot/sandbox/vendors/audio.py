"""Audio and its alignment as ElevenLabs sends them: pieces of sound with the times of their characters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from voicebot.sandbox.audio.mulaw import encode
from voicebot.sandbox.speech.synthesis import SAMPLE_RATE, Utterance, resample

FORMATS = {
    "ulaw_8000": 8000,
    **{f"pcm_{rate}": rate for rate in (8000, 16000, 22050, 24000, 44100, 48000)},
}
"""Each `output_format` that is spoken here, and its rate in Hz."""

_PIECE_MS = 200
_PER_MS = SAMPLE_RATE // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Mono 16-bit PCM at 8,000 Hz, and an alignment whose times (ms) begin at zero, as every message's do."""

    pcm: bytes
    alignment: dict[str, list[Any]]


def pieces(said: Utterance, lead_ms: int = 0) -> Iterator[Piece]:
    """Cut an utterance into pieces of 200 ms, after `lead_ms` of silence; none when nothing is said."""
    if not said.pcm:
        return
    pcm = b"\0" * (lead_ms * _PER_MS * 2) + said.pcm
    starts = [lead_ms + ms for ms in _character_starts(said)]
    size = _PIECE_MS * _PER_MS * 2
    for offset in range(0, len(pcm), size):
        part = pcm[offset : offset + size]
        begin, end = offset / 2 / _PER_MS, (offset + len(part)) / 2 / _PER_MS
        last = offset + size >= len(pcm)
        inside = [i for i, ms in enumerate(starts) if begin <= ms and (ms < end or last)]
        yield Piece(pcm=part, alignment=_alignment(said.text + " ", starts, inside, begin, end))


def _alignment(
    text: str, starts: list[float], inside: list[int], begin: float, end: float
) -> dict[str, list[Any]]:
    ends = [starts[i + 1] if i + 1 < len(starts) else end for i in inside]
    return {
        "chars": [text[i] for i in inside],
        "charStartTimesMs": [round(starts[i] - begin) for i in inside],
        "charDurationsMs": [
            max(0, round(min(stop, end) - starts[i])) for i, stop in zip(inside, ends, strict=True)
        ],
    }


def _character_starts(said: Utterance) -> list[float]:
    """Spread the characters evenly between the marks; one more stands for the space at the end."""
    at = [0, *(index for index, _ in said.marks), len(said.text)]
    ms = [0.0, *(start for _, start in said.marks), said.duration_ms]
    return [float(start) for start in np.interp(np.arange(len(said.text) + 1), at, ms)]


def encoded(pcm: bytes, output: str) -> bytes:
    """Turn mono 16-bit PCM at 8,000 Hz into one of `FORMATS`."""
    samples = np.frombuffer(pcm, dtype="<i2")
    if output == "ulaw_8000":
        return encode(samples)
    rate = FORMATS[output]
    if rate == SAMPLE_RATE:
        return pcm
    return (
        np.clip(resample(samples.astype(np.float32), SAMPLE_RATE, rate), -32768, 32767)
        .astype("<i2")
        .tobytes()
    )
