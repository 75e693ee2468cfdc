"""Diarisation: splits a track where the voice changes, and labels the voices A, B, C."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voicebot.sandbox.audio.measurement import (
    STRANGE,
    TICK,
    Fingerprint,
    Span,
    TooShort,
    VoiceTrack,
    distance,
    loudness,
    spans,
)
from voicebot.sandbox.audio.mulaw import Samples

UNKNOWN = "?"
"""The label of a sound that is too short for a fingerprint."""

_TURN_PAUSE_MS = 400.0
_LOOK = 150  # rows of 20 ms to each side of a possible change
_LEAST_LOOK = 25
_SNAP = 15
_FOUNDING_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(Span):
    """A stretch of one voice."""

    voice: str


class Voices:
    """The voices so far, each with the mean of its fingerprints, weighted by duration."""

    def __init__(self) -> None:
        self._known: list[tuple[Fingerprint, float]] = []

    def name(self, heard: Fingerprint, seconds: float) -> str:
        """Return the label of the nearest known voice, or a new one, and learn from it.

        Under 0.8 s cannot tell a new voice from the melody of a known one: it goes to the nearest.
        """
        distances = [distance(heard, known) for known, _ in self._known]
        sure = seconds >= _FOUNDING_S and min(distances, default=np.inf) >= _strange(seconds)
        if distances and not sure:
            index = int(np.argmin(distances))
            self._known[index] = _mean(*self._known[index], heard, seconds)
        else:
            index = len(self._known)
            self._known.append((heard, seconds))
        return _label(index)

    def pitch_of(self, label: str) -> float:
        """Return a known voice's pitch, in Hz."""
        return self._known[string.ascii_uppercase.index(label)][0].pitch_hz


def segments(samples: Samples, voices: Voices) -> tuple[Segment, ...]:
    """Split a track into stretches of one voice each, naming them with (and teaching) `voices`.

    Pauses up to 400 ms belong to a stretch. A change of voice without one is found when the voices are
    about half an octave apart and speak for half a second each, and is laid into the quietest place nearby.
    """
    pieces = [piece for turn in spans(samples, pause_ms=_TURN_PAUSE_MS) for piece in _split(samples, turn)]
    prints = [_print(samples, piece) for piece in pieces]
    labels = [UNKNOWN] * len(pieces)
    # The longest pieces are the surest: they found the voices, the short ones only join.
    for index in sorted(range(len(pieces)), key=lambda i: pieces[i].start - pieces[i].end):
        known = prints[index]
        if known is not None:
            labels[index] = voices.name(known, (pieces[index].end - pieces[index].start) / 8000)
    return _join(pieces, labels)


def _split(samples: Samples, turn: Span) -> list[Span]:
    """Cut a turn wherever the voice before differs from the voice after."""
    track = VoiceTrack(samples[turn.start : turn.end])
    cuts = _changes(track, 0, len(track))
    loud = loudness(samples[turn.start : turn.end])
    edges = [turn.start]
    for cut in cuts:
        low = max(0, cut - _SNAP)
        edges.append(turn.start + (low + int(np.argmin(loud[low : cut + _SNAP + 1]))) * TICK + TICK // 2)
    edges.append(turn.end)
    found = []
    for start, end in itertools.pairwise(edges):
        inside = spans(samples[start:end], pause_ms=1e9)
        found += [Span(start=start + span.start, end=start + span.end) for span in inside]
    return found


def _changes(track: VoiceTrack, first: int, last: int) -> list[int]:
    """Find the rows where the voice changes, by the greatest contrast first."""
    best, where = 1.0, -1
    for row in range(first + _LEAST_LOOK, last - _LEAST_LOOK + 1, 2):
        contrast = _contrast(track, max(first, row - _LOOK), row, min(last, row + _LOOK))
        if contrast > best:
            best, where = contrast, row
    if where < 0:
        return []
    return [*_changes(track, first, where), where, *_changes(track, where, last)]


def _contrast(track: VoiceTrack, first: int, middle: int, last: int) -> float:
    """Compare the pitch before and after, in units of what melody explains (99 % of espeak-ng's)."""
    try:
        before, after = track.fingerprint(first, middle), track.fingerprint(middle, last)
    except TooShort:
        return 0.0
    melody = 0.05 + 0.37 / float(np.sqrt(min(middle - first, last - middle) / 50))
    return abs(float(np.log2(before.pitch_hz / after.pitch_hz))) / melody


def _print(samples: Samples, piece: Span) -> Fingerprint | None:
    try:
        return VoiceTrack(samples[piece.start : piece.end]).fingerprint()
    except TooShort:
        return None


def _join(pieces: Sequence[Span], labels: Sequence[str]) -> tuple[Segment, ...]:
    """Merge neighbours of one voice; a piece too short to know joins the neighbour it touches."""
    joined: list[Segment] = []
    for piece, label in zip(pieces, labels, strict=True):
        last = joined[-1] if joined else None
        near = last is not None and piece.start - last.end <= _TURN_PAUSE_MS * 8
        if last is not None and near and (UNKNOWN in (label, last.voice) or label == last.voice):
            voice = label if last.voice == UNKNOWN else last.voice
            joined[-1] = Segment(start=last.start, end=piece.end, voice=voice)
        else:
            joined.append(Segment(start=piece.start, end=piece.end, voice=label))
    return tuple(joined)


def _strange(seconds: float) -> float:
    """How far a sound of this length must lie from a known voice to be another: short ones vary more."""
    return STRANGE * max(1.0, float(np.sqrt(2.0 / seconds)))


def _mean(one: Fingerprint, weight: float, other: Fingerprint, more: float) -> tuple[Fingerprint, float]:
    total = weight + more
    pitch = np.exp((np.log(one.pitch_hz) * weight + np.log(other.pitch_hz) * more) / total)
    bands = (one.bands * weight + other.bands * more) / total
    return Fingerprint(pitch_hz=float(pitch), bands=bands), total


def _label(index: int) -> str:
    letters = string.ascii_uppercase
    return letters[index] if index < len(letters) else f"{letters[index // 26 - 1]}{letters[index % 26]}"
