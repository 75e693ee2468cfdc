"""Estimate of the audio that the caller has heard, and a way to wait for it.

A carrier plays our audio in real time from its own buffer, so audio is sent earlier than it is heard. The
estimate combines three inputs: the time and the duration of each sent piece of audio; the *marks* sent
between the audio, which the carrier returns when the audio before them has been played; and *clears*, which
discard the buffered audio and return the outstanding marks immediately.

Positions are ms of audio sent since the stream began. Times are ms on any monotonic clock, passed by the
caller. There is no I/O in this module.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MarkOutcome = Literal["played", "cleared"]
"""Outcome of a mark: the audio before it was played, or discarded by a clear."""

ECHO_GRACE_MS = 1500.0
"""Time in ms that an expected mark may be overdue before its audio counts as heard. A lost mark causes a
pause of this length once; with a shorter time, audio of a stalled carrier would count as heard too early."""

BLIND_MARGIN_MS = 250.0
"""Time in ms added to the elapsed time of audio without a mark: about the round-trip time of a bad
network."""

MAX_LAG_MS = 2000.0
LAG_GAIN = 0.25
MAX_MARKS = 256
_EPSILON = 1e-6


@dataclass(slots=True)
class _Run:
    """Audio that plays without a gap: sent from time `at` on, up to position `end`."""

    at: float
    end: float


@dataclass(slots=True)
class _Mark:
    """An outstanding mark; `heard_at_clear` is set once a clear was sent after it."""

    name: str
    position: float
    heard_at_clear: float | None = None


class Playout:
    """Estimate of the audio that the caller has heard: elapsed time, corrected by each returned mark.

    `lag_ms` is learned from the marks: the time from sending audio until it is known to have been played.
    After the first mark the estimate is therefore late by the network delay of the return path, not early.
    The newest mark is used even if it is late: the estimate is then too low until the next mark.
    """

    def __init__(self, *, clears_whole_pieces: bool = False) -> None:
        """Start with no audio sent.

        `clears_whole_pieces`: a clear discards only pieces that have not begun; the one that is being played
        is played to its end.
        """
        self._pieces: deque[float] | None = deque() if clears_whole_pieces else None
        self._sent = 0.0
        # Everything up to `_anchor` had been played (or dropped) at `_anchor_at`; `_runs` come after it.
        self._anchor = 0.0
        self._anchor_at = float("-inf")
        self._runs: deque[_Run] = deque()
        self._marks: deque[_Mark] = deque(maxlen=MAX_MARKS)
        self._dropped: list[tuple[float, float]] = []
        self._lag: float | None = None
        self._echoes = False
        self._ignored_marks = False

    # ------------------------------------------------------------------------------------------- input

    def audio_sent(self, duration_ms: float, at: float) -> None:
        """Record that `duration_ms` of audio were sent at `at`."""
        end = self._sent + duration_ms
        if self._runs and at + self.lag_ms <= self._when(self._sent)[0]:
            self._runs[-1].end = end
        else:
            self._runs.append(_Run(at, end))
        self._sent = end
        if self._pieces is not None:
            self._pieces.append(end)
            while self._pieces[0] <= self._anchor:
                self._pieces.popleft()

    def mark_sent(self, name: str, at: float) -> None:
        """Record that a mark was sent after all audio so far."""
        if not self._echoes and self._overdue(at):
            self._ignored_marks = True
        self._marks.append(_Mark(name, self._sent))

    def mark_echoed(self, name: str, at: float) -> MarkOutcome | None:
        """Record a returned mark and return its outcome; None if the mark is not outstanding."""
        mark = next((mark for mark in self._marks if mark.name == name), None)
        if mark is None:
            return None
        self._marks.remove(mark)
        self._echoes, self._ignored_marks = True, False
        if mark.heard_at_clear is not None:
            # Sent before a clear: played only if its audio was played before the clear arrived.
            return "played" if mark.position <= mark.heard_at_clear + _EPSILON else "cleared"
        if mark.position > self._anchor:
            self._learn(mark.position, at)
            self._move_anchor(mark.position, at)
        return "played"

    def cleared(self, at: float) -> None:
        """Record that the carrier was told to discard its buffered audio."""
        # Until the clear arrives, the carrier plays on for about `lag_ms`.
        heard = self.position(at + self.lag_ms)
        if self._pieces is None:
            self._drop_after(heard, at)
            return
        begins = max((end for end in self._pieces if end <= heard), default=self._anchor)
        if heard > begins + _EPSILON:  # a piece is being played
            heard = next((end for end in self._pieces if end > heard), heard)
        self._drop_after(heard, max(at, self._when(heard)[0]))

    def ended(self, at: float) -> None:
        """Record the end of the stream: audio not heard by now will not be heard."""
        self._drop_after(self.position(at), at)

    # ----------------------------------------------------------------------------------------- answers

    @property
    def sent_ms(self) -> float:
        """Position of the next audio: ms of audio sent so far, including cleared audio."""
        return self._sent

    @property
    def lag_ms(self) -> float:
        """Time in ms from sending audio until it is known to be heard (carrier's buffer and round trip)."""
        return self._lag or 0.0

    def position(self, now: float) -> float:
        """Position that has been played; cleared audio counts as played."""
        cursor, position = self._anchor_at, self._anchor
        for run in self._runs:
            begins = max(cursor, run.at + self.lag_ms)
            played = min(max(now - begins, 0.0), run.end - position)
            position += played
            cursor = begins + played
            if position < run.end:
                break
        return position

    def heard_ms(self, now: float) -> float:
        """Audio that the caller has heard, in ms; cleared audio is not counted."""
        return self.heard_between(0.0, self._sent, now)

    def heard_between(self, start: float, end: float, now: float) -> float:
        """Audio between the positions `start` and `end` (an utterance) that was heard, in ms."""
        passed = max(0.0, min(end, self.position(now)) - start)
        return passed - sum(
            max(0.0, min(end, stop) - max(start, begin)) for begin, stop in self._dropped if stop > start
        )

    def all_heard(self, now: float) -> bool:
        """Whether all sent audio was heard or cleared."""
        return self.heard_to(self._sent, now)

    def heard_to(self, position: float, now: float) -> bool:
        """Whether all audio up to `position` was heard or cleared, by a mark or by elapsed time."""
        if self._anchor >= position - _EPSILON:
            return now >= self._anchor_at
        return now >= self.heard_by(position)

    def heard_by(self, position: float) -> float:
        """Time at which all audio up to `position` counts as heard if no further mark returns."""
        if self._anchor >= position - _EPSILON:
            return self._anchor_at
        deciding_mark = next(
            (mark for mark in self._expected() if mark.position >= position - _EPSILON), None
        )
        if deciding_mark is None or self._ignored_marks:
            return self._when(position)[0] + BLIND_MARGIN_MS
        return self._when(deciding_mark.position)[0] + ECHO_GRACE_MS

    def ends_at(self) -> float:
        """Time at which all audio sent so far has been played, or was cleared; -inf if none was sent."""
        return self._when(self._sent)[0]

    def is_marked(self) -> bool:
        """Whether an outstanding mark was sent after all audio so far."""
        return any(mark.position >= self._sent for mark in self._expected())

    # ---------------------------------------------------------------------------------------- the model

    def _expected(self) -> list[_Mark]:
        return [mark for mark in self._marks if mark.heard_at_clear is None]

    def _overdue(self, now: float) -> bool:
        return any(self._when(mark.position)[0] + ECHO_GRACE_MS < now for mark in self._expected())

    def _when(self, position: float) -> tuple[float, bool]:
        """Estimated time at which `position` is played, and whether its run began after the last input."""
        cursor, reached, fresh = self._anchor_at, self._anchor, False
        for run in self._runs:
            if reached >= position:
                break
            fresh = run.at + self.lag_ms >= cursor
            upto = min(position, run.end)
            cursor = max(cursor, run.at + self.lag_ms) + (upto - reached)
            reached = upto
        return cursor, fresh

    def _learn(self, position: float, at: float) -> None:
        """Correct the lag by a mark: immediately if it was too high, slowly if the mark is late."""
        expected, fresh = self._when(position)
        if not fresh:
            return
        error = at - expected
        lag = error if self._lag is None else self._lag + (error if error < 0 else error * LAG_GAIN)
        self._lag = min(max(lag, 0.0), MAX_LAG_MS)

    def _drop_after(self, heard: float, at: float) -> None:
        for mark in self._expected():
            mark.heard_at_clear = heard
        if heard < self._sent:
            self._dropped.append((heard, self._sent))
        # When nothing was playing any more, the end of what was heard stays where it is.
        self._move_anchor(self._sent, min(at, self.ends_at()))

    def _move_anchor(self, position: float, at: float) -> None:
        while self._runs and self._runs[0].end <= position:
            self._runs.popleft()
        self._anchor, self._anchor_at = position, at


class PlayoutWaiter:
    """Waits on a `Playout` until `changed` is called or enough time has elapsed."""

    def __init__(self, playout: Playout, now_ms: Callable[[], float]) -> None:
        """Wait on `playout`, whose times are those of `now_ms`."""
        self._playout = playout
        self._now_ms = now_ms
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Check again: a mark was returned or a clear was sent."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until all audio sent so far was heard or cleared; False if `timeout_s` elapsed first."""
        position = self._playout.sent_ms
        deadline = self._now_ms() + timeout_s * 1000.0
        while not self._playout.heard_to(position, now := self._now_ms()):
            if now >= deadline:
                return False
            wake = min(self._playout.heard_by(position), deadline)
            try:
                async with asyncio.timeout(max(wake - now, 1.0) / 1000.0):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return True
