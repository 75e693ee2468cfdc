"""Analysis of a recorded call: who speaks when and in which voice; gaps, overlaps and repetitions.

Two ways to look: `analyse` knows nothing but the recording; `locate` finds an utterance whose sound is known,
exact to the sample. All times are ms since the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from voicebot.sandbox.audio.measurement import TICK, Span, VoiceTrack, spans
from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.audio.speakers import UNKNOWN, Segment, Voices, segments
from voicebot.sandbox.audio.wav import read
from voicebot.sandbox.carrier.model import Recording

_PAUSE_MS = 400.0
_ALIKE = 0.7
_ROUGHLY_ALIKE = 0.5
_PIECE, _ROUGHLY_AT = 3200, 4000  # samples: 400 ms and 500 ms
_LEAST_REPEAT_MS = 400.0
_APART = 0.25  # octaves between two voices whose alternation can be heard
_WITHIN = 0.15  # octaves around a voice's pitch that count as that voice
_FLICKER_MS = 1000
_FLICKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """From the end of the caller's speech to the next sound of the agent."""

    caller_end_ms: float
    agent_start_ms: float
    voice: str
    """Whose sound it is."""
    previous_voice: str | None
    """Who had spoken last before that; None: nobody."""

    @property
    def ms(self) -> float:
        """How long the caller waited."""
        return self.agent_start_ms - self.caller_end_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One agent voice followed by another without the caller in between."""

    end_ms: float
    start_ms: float
    before: str
    after: str

    @property
    def gap_ms(self) -> float:
        """The silence between the two."""
        return self.start_ms - self.end_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Two agent voices at once: mixed, or cut into each other piece by piece."""

    start_ms: float
    end_ms: float
    voices: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The same sound heard twice from the agent."""

    first_ms: float
    second_ms: float
    duration_ms: float
    likeness: float
    """The correlation of the two, 0 to 1."""
    caller_between: bool
    """Whether the caller spoke in between: then it may well be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What a recording shows."""

    duration_ms: float
    caller: tuple[Span, ...]
    agent: tuple[Segment, ...]
    voices: tuple[str, ...]
    """The agent's voices in order of appearance."""
    gaps: tuple[Gap, ...]
    switches: tuple[Switch, ...]
    overlaps: tuple[Overlap, ...]
    repeats: tuple[Repeat, ...]

    def as_json(self) -> dict[str, object]:
        """Return plain data; spans and segments in ms, with the gaps worked out."""
        return {
            "duration_ms": self.duration_ms,
            "caller": [{"start_ms": span.start_ms, "end_ms": span.end_ms} for span in self.caller],
            "agent": [
                {"start_ms": part.start_ms, "end_ms": part.end_ms, "voice": part.voice} for part in self.agent
            ],
            "voices": list(self.voices),
            "gaps": [asdict(gap) | {"gap_ms": gap.ms} for gap in self.gaps],
            "switches": [asdict(switch) | {"gap_ms": switch.gap_ms} for switch in self.switches],
            "overlaps": [asdict(overlap) for overlap in self.overlaps],
            "repeats": [asdict(repeat) for repeat in self.repeats],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Span):
    """Where a known utterance sounds, in samples."""

    likeness: float


def analyse(recording: Recording | Path | str) -> Analysis:
    """Analyse a recording, or the WAV file of one.

    Raises:
        NotACall, OSError: the file is not a recording, or cannot be read.
    """
    if not isinstance(recording, Recording):
        recording = read(recording)
    voices = Voices()
    caller = spans(recording.sent, pause_ms=_PAUSE_MS)
    agent, appearance = _in_order_of_appearance(segments(recording.received, voices))
    return Analysis(
        duration_ms=len(recording.received) / 8,
        caller=caller,
        agent=agent,
        voices=tuple(dict.fromkeys(part.voice for part in agent if part.voice != UNKNOWN)),
        gaps=_gaps(caller, agent),
        switches=_switches(caller, agent),
        overlaps=_overlaps(
            recording.received, {new: voices.pitch_of(old) for old, new in appearance.items()}
        ),
        repeats=_repeats(recording.received, caller, agent),
    )


def locate(track: Samples, utterance: Samples, *, likeness: float = _ALIKE) -> tuple[Found, ...]:
    """Find every place where a known utterance sounds whole, the best first.

    Exact to the sample for an utterance played unchanged (µ-law does not matter); one that another sound is
    mixed into is found as long as it keeps `likeness` (normalised correlation, 0 to 1).
    """
    if len(utterance) > len(track) or not np.any(utterance):
        return ()
    scores = _correlation(track, utterance)
    found = []
    while (best := int(np.argmax(scores))) >= 0 and scores[best] >= likeness:
        found.append(Found(start=best, end=best + len(utterance), likeness=float(min(1.0, scores[best]))))
        scores[max(0, best - len(utterance) // 2) : best + len(utterance) // 2 + 1] = -1.0
    return tuple(found)


def locate_roughly(track: Samples, utterance: Samples) -> int | None:
    """Where a known utterance sounds, in samples, though bits of it may be missing or late; None: nowhere.

    The best places of at least half of its pieces of 400 ms must agree with each other within 500 ms.
    """
    begins = []
    pieces = [utterance[start : start + _PIECE] for start in range(0, len(utterance), _PIECE)]
    for number, piece in enumerate(pieces):
        places = locate(track, piece, likeness=_ROUGHLY_ALIKE)
        begins += [places[0].start - number * _PIECE] if places else []
    middle = sorted(begins)[len(begins) // 2] if begins else 0
    agreeing = [begin for begin in begins if abs(begin - middle) <= _ROUGHLY_AT]
    return min(agreeing) if 2 * len(agreeing) >= len(pieces) and agreeing else None


def _correlation(track: Samples, piece: Samples) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Correlate a piece with every place of a track that holds it whole, normalised to at most 1."""
    long, short = track.astype(np.float64), piece.astype(np.float64)
    size = 1 << (len(long) + len(short) - 1).bit_length()
    spectrum = np.fft.rfft(long, size) * np.conj(np.fft.rfft(short, size))
    products = np.fft.irfft(spectrum, size)[: len(long) - len(short) + 1]
    energy = np.concatenate([[0.0], np.cumsum(long**2)])
    there = energy[len(short) :] - energy[: -len(short)]
    scores = products / np.sqrt(np.maximum(there * (short**2).sum(), 1.0))
    return np.where(there > 1e-3 * (short**2).sum(), scores, 0.0)


def _in_order_of_appearance(parts: Sequence[Segment]) -> tuple[tuple[Segment, ...], dict[str, str]]:
    """Rename the voices so that the first heard is A; return also how they were renamed."""
    order = dict.fromkeys(part.voice for part in parts if part.voice != UNKNOWN)
    names = dict(zip(order, sorted(order, key=lambda name: (len(name), name)), strict=True))
    # The labels are A, B, C … without a hole, so sorting them gives the names to hand out.
    renamed = tuple(
        Segment(start=part.start, end=part.end, voice=names.get(part.voice, UNKNOWN)) for part in parts
    )
    return renamed, names


def _gaps(caller: Sequence[Span], agent: Sequence[Segment]) -> tuple[Gap, ...]:
    """Pair each end of the caller's speech with the agent's next start, unless the caller goes on first."""
    found = []
    for index, span in enumerate(caller):
        following = next((part for part in agent if part.start >= span.end), None)
        goes_on = caller[index + 1].start if index + 1 < len(caller) else None
        if following is None or (goes_on is not None and goes_on < following.start):
            continue
        before = [part for part in agent if part.start < span.end]
        found.append(
            Gap(
                caller_end_ms=span.end_ms,
                agent_start_ms=following.start_ms,
                voice=following.voice,
                previous_voice=before[-1].voice if before else None,
            )
        )
    return tuple(found)


def _switches(caller: Sequence[Span], agent: Sequence[Segment]) -> tuple[Switch, ...]:
    return tuple(
        Switch(end_ms=one.end_ms, start_ms=two.start_ms, before=one.voice, after=two.voice)
        for one, two in pairwise(agent)
        if one.voice != two.voice and not _speaks(caller, one.end, two.start)
    )


def _speaks(caller: Sequence[Span], start: int, end: int) -> bool:
    return any(span.start < end and span.end > start for span in caller)


def _overlaps(received: Samples, pitches: dict[str, float]) -> tuple[Overlap, ...]:
    """Find where the pitch flickers between two voices of the call, which one throat cannot do."""
    found: list[Overlap] = []
    for turn in spans(received, pause_ms=_PAUSE_MS):
        track = VoiceTrack(received[turn.start : turn.end])
        for one, two in combinations(sorted(pitches), 2):
            if abs(np.log2(pitches[one] / pitches[two])) >= _APART:
                rows = _flickers(track, pitches[one], pitches[two])
                found += [
                    Overlap(
                        start_ms=turn.start_ms + first * 20,
                        end_ms=turn.start_ms + last * 20,
                        voices=(one, two),
                    )
                    for first, last in rows
                ]
    return tuple(found)


def _flickers(track: VoiceTrack, one_hz: float, two_hz: float) -> list[tuple[int, int]]:
    """Return the stretches (in rows) with at least four changes between the two pitches within a second."""
    octaves = np.log2(track.pitch_hz)
    is_one = track.voiced & (np.abs(octaves - np.log2(one_hz)) < _WITHIN)
    is_two = track.voiced & (np.abs(octaves - np.log2(two_hz)) < _WITHIN)
    rows = np.flatnonzero(is_one | is_two)
    changes = rows[1:][is_one[rows[1:]] != is_one[rows[:-1]]]
    stretches: list[tuple[int, int]] = []
    for first, last in zip(changes, changes[_FLICKERS - 1 :], strict=False):
        if (last - first) * 20 > _FLICKER_MS:
            continue
        if stretches and first <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], int(last))
        else:
            stretches.append((int(first), int(last)))
    return stretches


def _repeats(received: Samples, caller: Sequence[Span], agent: Sequence[Segment]) -> tuple[Repeat, ...]:
    """Compare every two utterances: the shorter one is looked for in the longer one."""
    turns = [part for part in agent if part.end_ms - part.start_ms >= _LEAST_REPEAT_MS]
    found = []
    for one, two in combinations(turns, 2):
        short, long = sorted((one, two), key=lambda part: part.end - part.start)
        margin = TICK
        sound = received[max(0, long.start - margin) : long.end + margin]
        scores = _correlation(sound, received[short.start : short.end])
        if len(scores) and scores.max() >= _ALIKE:
            found.append(
                Repeat(
                    first_ms=one.start_ms,
                    second_ms=two.start_ms,
                    duration_ms=short.end_ms - short.start_ms,
                    likeness=float(min(1.0, scores.max())),
                    caller_between=_speaks(caller, one.end, two.start),
                )
            )
    return tuple(found)
