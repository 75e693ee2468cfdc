"""What the caller has heard of what we sent: a pure model, and a way to wait for it.

A carrier plays our audio from a buffer of its own, in real time, so "sent" runs ahead of "heard". Three kinds
of evidence are put together: when each piece of audio was sent and how long it lasts; the *marks* sent
between the audio, which the carrier returns when the audio before them has been played; and *clears*, which
throw away what is still buffered (and return the outstanding marks at once).

Positions are milliseconds of audio sent since the stream began. Times are milliseconds of any monotonic
clock, always given by the caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MarkFate = Literal["played", "cleared"]
"""What became of a mark: the audio before it was played out, or was thrown away by a clear."""

ECHO_GRACE_MS = 1500.0
"""How long an expected echo may be overdue before the audio counts as heard without it. A lost echo costs
this once as dead air; a shorter grace would call a stalled carrier's audio heard before it was."""

BLIND_MARGIN_MS = 250.0
"""Added to the elapsed time of audio that no mark vouches for: about a bad network's way to the carrier and
back."""

MAX_LAG_MS = 2000.0
LAG_GAIN = 0.25
MAX_MARKS = 256
_EPSILON = 1e-6


@dataclass(slots=True)
class _Run:
    """Audio that plays without a gap once it has begun: sent from `at` on, up to position `end`."""

    at: float
    end: float


@dataclass(slots=True)
class _Mark:
    """An outstanding mark; `heard_at_clear` is set once a clear was sent after it."""

    name: str
    position: float
    heard_at_clear: float | None = None


class Playout:
    """What of our audio the caller has heard: by elapsed time, corrected by every mark that comes back.

    `lag_ms` is learned from the marks: how long after sending a sound is known to have been played. Once one
    mark is back the estimate is thus late by the network's way back rather than early, and the newest echo is
    believed even if it is late: at worst too little is claimed, until the next.
    """

    def __init__(self) -> None:
        """Begin with nothing sent."""
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

    # ---------------------------------------------------------------------------------------- evidence

    def audio_sent(self, duration_ms: float, at: float) -> None:
        """Note that `duration_ms` of audio were handed to the carrier at `at`."""
        end = self._sent + duration_ms
        if self._runs and at + self.lag_ms <= self._when(self._sent)[0]:
            self._runs[-1].end = end
        else:
            self._runs.append(_Run(at, end))
        self._sent = end

    def mark_sent(self, name: str, at: float) -> None:
        """Note that a mark was sent behind all audio so far."""
        if not self._echoes and self._overdue(at):
            self._ignored_marks = True
        self._marks.append(_Mark(name, self._sent))

    def mark_echoed(self, name: str, at: float) -> MarkFate | None:
        """Take in a returned mark and tell its fate; None for a mark that is not outstanding."""
        mark = next((mark for mark in self._marks if mark.name == name), None)
        if mark is None:
            return None
        self._marks.remove(mark)
        self._echoes, self._ignored_marks = True, False
        if mark.heard_at_clear is not None:
            # Sent before a clear: played only if its audio was out before the clear arrived there.
            return "played" if mark.position <= mark.heard_at_clear + _EPSILON else "cleared"
        if mark.position > self._anchor:
            self._learn(mark.position, at)
            self._move_anchor(mark.position, at)
        return "played"

    def cleared(self, at: float) -> None:
        """Note that the carrier was told to throw away what it has not played yet."""
        # While the clear travels the carrier plays on for about as long as our knowledge lags behind.
        self._drop_after(self.position(at + self.lag_ms), at)

    def ended(self, at: float) -> None:
        """Note that the stream is gone: what was not heard by now never will be."""
        self._drop_after(self.position(at), at)

    # ----------------------------------------------------------------------------------------- answers

    @property
    def sent_ms(self) -> float:
        """The position of the next audio: how much was sent so far, cleared audio included."""
        return self._sent

    @property
    def lag_ms(self) -> float:
        """How long after sending a sound is known to be heard (carrier's buffer and network, both ways)."""
        return self._lag or 0.0

    def position(self, now: float) -> float:
        """How far playing has come, cleared audio counted as passed."""
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
        """How many milliseconds of our audio the caller has heard; cleared audio is not counted."""
        return self.heard_between(0.0, self._sent, now)

    def heard_between(self, start: float, end: float, now: float) -> float:
        """How many milliseconds of the audio from position `start` to `end` (an utterance) were heard."""
        passed = max(0.0, min(end, self.position(now)) - start)
        return passed - sum(
            max(0.0, min(end, stop) - max(start, begin)) for begin, stop in self._dropped if stop > start
        )

    def all_heard(self, now: float) -> bool:
        """Whether nothing that was sent is still to be heard."""
        return self.heard_to(self._sent, now)

    def heard_to(self, position: float, now: float) -> bool:
        """Whether everything up to `position` was heard or cleared, by a mark or else by elapsed time."""
        return self._anchor >= position - _EPSILON or now >= self.heard_by(position)

    def heard_by(self, position: float) -> float:
        """When everything up to `position` counts as heard if no further mark comes back."""
        vouching = next((mark for mark in self._expected() if mark.position >= position - _EPSILON), None)
        if vouching is None or self._ignored_marks:
            return self._when(position)[0] + BLIND_MARGIN_MS
        return self._when(vouching.position)[0] + ECHO_GRACE_MS

    def is_marked(self) -> bool:
        """Whether a mark that is still expected back stands behind all audio so far."""
        return any(mark.position >= self._sent for mark in self._expected())

    # ---------------------------------------------------------------------------------------- the model

    def _expected(self) -> list[_Mark]:
        return [mark for mark in self._marks if mark.heard_at_clear is None]

    def _overdue(self, now: float) -> bool:
        return any(self._when(mark.position)[0] + ECHO_GRACE_MS < now for mark in self._expected())

    def _when(self, position: float) -> tuple[float, bool]:
        """When `position` is played by the estimate, and whether its run began after the last evidence."""
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
        """Correct the lag by an echo: at once when it was overestimated, slowly when one echo is late."""
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
        self._move_anchor(self._sent, at)

    def _move_anchor(self, position: float, at: float) -> None:
        while self._runs and self._runs[0].end <= position:
            self._runs.popleft()
        self._anchor, self._anchor_at = position, at


class PlayoutWatch:
    """Waits on a `Playout`: woken by evidence (`changed`), or when elapsed time alone decides."""

    def __init__(self, playout: Playout, now_ms: Callable[[], float]) -> None:
        """Watch `playout`, whose times come from `now_ms`."""
        self._playout = playout
        self._now_ms = now_ms
        self._news = asyncio.Event()

    def changed(self) -> None:
        """Look again: a mark came back or a clear was sent."""
        self._news.set()
        self._news = asyncio.Event()

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until what was sent until now was heard or cleared; False when `timeout_s` came first."""
        position = self._playout.sent_ms
        gives_up = self._now_ms() + timeout_s * 1000.0
        while not self._playout.heard_to(position, now := self._now_ms()):
            if now >= gives_up:
                return False
            wake = min(self._playout.heard_by(position), gives_up)
            try:
                async with asyncio.timeout(max(wake - now, 1.0) / 1000.0):
                    await self._news.wait()
            except TimeoutError:
                continue
        return True
