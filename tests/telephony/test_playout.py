"""The playout estimate, against a simulated carrier whose playout is known."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telephony.playout import BLIND_MARGIN_MS, ECHO_GRACE_MS, Playout, PlayoutWaiter


def test_nothing_sent_is_all_heard() -> None:
    """If nothing was sent, everything counts as heard."""
    playout = Playout()
    assert (playout.heard_ms(0.0), playout.all_heard(0.0), playout.is_marked()) == (0.0, True, False)


def test_audio_is_heard_as_time_passes_but_never_before_it_was_sent() -> None:
    """Without marks the estimate is the elapsed time, limited by the sent audio, without pauses."""
    playout = Playout()
    playout.audio_sent(200.0, at=1000.0)
    assert [playout.heard_ms(now) for now in (1000.0, 1050.0, 1200.0, 1700.0)] == [0.0, 50.0, 200.0, 200.0]
    playout.audio_sent(100.0, at=2000.0)
    assert [playout.heard_ms(now) for now in (2000.0, 2040.0, 3000.0)] == [200.0, 240.0, 300.0]


def test_audio_sent_ahead_queues_at_the_carrier() -> None:
    """Two chunks sent at once are played one after the other."""
    playout = Playout()
    playout.audio_sent(40.0, at=0.0)
    playout.audio_sent(40.0, at=0.0)
    assert [playout.heard_ms(now) for now in (40.0, 60.0, 100.0)] == [40.0, 60.0, 80.0]


def test_without_a_mark_all_is_heard_after_the_margin() -> None:
    """Audio without a mark counts as heard after its duration and the margin."""
    playout = Playout()
    playout.audio_sent(100.0, at=0.0)
    assert not playout.all_heard(100.0 + BLIND_MARGIN_MS - 1)
    assert playout.all_heard(100.0 + BLIND_MARGIN_MS)


def test_a_mark_decides_when_it_comes_back() -> None:
    """With an outstanding mark, audio counts as heard when the mark returns, not before."""
    playout = Playout()
    playout.audio_sent(100.0, at=0.0)
    playout.mark_sent("a", at=0.0)
    assert playout.is_marked()
    assert not playout.all_heard(900.0)
    assert playout.mark_echoed("a", at=905.0) == "played"
    assert playout.all_heard(905.0)
    assert playout.lag_ms == 805.0


def test_a_late_mark_neither_shrinks_nor_exceeds_what_was_heard() -> None:
    """Audio confirmed by a mark stays heard."""
    playout = Playout()
    playout.audio_sent(100.0, at=0.0)
    playout.mark_sent("a", at=0.0)
    playout.mark_sent("b", at=0.0)
    playout.mark_echoed("a", at=110.0)
    playout.audio_sent(400.0, at=110.0)
    before = playout.heard_ms(300.0)
    assert playout.mark_echoed("b", at=300.0) == "played"
    assert playout.heard_ms(300.0) == before
    assert 100.0 < before <= 500.0


def test_a_missing_mark_costs_the_grace_once_and_a_later_one_makes_up_for_it() -> None:
    """A lost mark delays the wait by the grace once, and the next mark confirms all audio before it."""
    playout = Playout()
    playout.audio_sent(100.0, at=0.0)
    playout.mark_sent("lost", at=0.0)
    assert not playout.all_heard(100.0 + ECHO_GRACE_MS - 1)
    assert playout.all_heard(100.0 + ECHO_GRACE_MS)
    playout.audio_sent(100.0, at=200.0)
    playout.mark_sent("next", at=200.0)
    playout.mark_echoed("next", at=310.0)
    assert playout.all_heard(310.0)
    assert playout.heard_ms(310.0) == 200.0


def test_a_carrier_that_never_returns_marks_is_no_longer_waited_for() -> None:
    """After one overdue mark and no returned one, the margin replaces the grace until a mark returns."""
    playout = Playout()
    playout.audio_sent(100.0, at=0.0)
    playout.mark_sent("a", at=0.0)
    playout.audio_sent(100.0, at=5000.0)
    playout.mark_sent("b", at=5000.0)
    assert playout.all_heard(5100.0 + BLIND_MARGIN_MS)
    playout.mark_echoed("b", at=5400.0)
    playout.audio_sent(100.0, at=6000.0)
    playout.mark_sent("c", at=6000.0)
    assert not playout.all_heard(6100.0 + playout.lag_ms + BLIND_MARGIN_MS)


def test_a_clear_after_the_end_does_not_move_it() -> None:
    """A clear after the end of all audio does not move that end, from which a silence is measured."""
    playout = Playout()
    playout.cleared(at=50.0)
    assert playout.ends_at() == float("-inf")
    playout.audio_sent(200.0, at=100.0)
    playout.cleared(at=900.0)
    assert playout.ends_at() == 300.0
    playout.audio_sent(200.0, at=1000.0)
    playout.cleared(at=1100.0)
    assert playout.ends_at() == 1100.0


def test_clear_discards_audio_and_marks() -> None:
    """After a clear nothing more is heard; marks of played audio are played, the others cleared."""
    playout = Playout()
    playout.audio_sent(100.0, at=0.0)
    playout.mark_sent("first", at=0.0)
    playout.audio_sent(400.0, at=0.0)
    playout.mark_sent("second", at=0.0)
    playout.cleared(at=250.0)
    assert playout.all_heard(250.0)
    assert not playout.is_marked()
    assert playout.heard_ms(1000.0) == 250.0
    assert playout.mark_echoed("first", at=260.0) == "played"
    assert playout.mark_echoed("second", at=260.0) == "cleared"


def test_marks_with_equal_names_are_distinguished_by_order() -> None:
    """A returned mark is matched to the oldest outstanding mark of its name."""
    playout = Playout()
    playout.audio_sent(400.0, at=0.0)
    playout.mark_sent("end", at=0.0)
    playout.cleared(at=100.0)
    playout.audio_sent(100.0, at=101.0)
    playout.mark_sent("end", at=101.0)
    assert playout.mark_echoed("end", at=110.0) == "cleared"
    assert not playout.all_heard(150.0)
    assert playout.mark_echoed("end", at=205.0) == "played"
    assert playout.all_heard(205.0)


def test_unknown_mark_changes_nothing() -> None:
    """A mark that was not sent, or already returned, has no outcome."""
    playout = Playout()
    playout.audio_sent(100.0, at=0.0)
    playout.mark_sent("a", at=0.0)
    playout.mark_echoed("a", at=120.0)
    assert playout.mark_echoed("a", at=130.0) is None
    assert playout.mark_echoed("b", at=130.0) is None
    assert playout.lag_ms == 20.0


def test_heard_part_of_an_utterance() -> None:
    """The heard part of each utterance is right while another one plays and after an interruption."""
    playout = Playout()
    playout.audio_sent(300.0, at=0.0)
    first = (0.0, playout.sent_ms)
    playout.cleared(at=120.0)
    second_starts = playout.sent_ms
    playout.audio_sent(500.0, at=1000.0)
    second = (second_starts, playout.sent_ms)
    assert playout.heard_between(*first, 1200.0) == 120.0
    assert playout.heard_between(*second, 1200.0) == 200.0
    assert playout.heard_ms(1200.0) == 320.0
    assert playout.heard_between(*first, 9000.0) == 120.0
    assert playout.heard_between(*second, 9000.0) == 500.0


def test_end_of_stream_discards_audio() -> None:
    """Audio that was not heard when the socket closed counts as not heard, and waits end."""
    playout = Playout()
    playout.audio_sent(1000.0, at=0.0)
    playout.mark_sent("a", at=0.0)
    playout.ended(at=300.0)
    assert playout.all_heard(300.0)
    assert playout.heard_ms(5000.0) == 300.0


def test_one_late_echo_hardly_moves_the_lag_and_an_early_one_corrects_it() -> None:
    """The lag rises slowly and falls at once, so that one delayed packet has little effect."""
    playout = Playout()
    for start, echo_after in ((0.0, 120.0), (1000.0, 620.0), (3000.0, 120.0)):
        playout.audio_sent(100.0, at=start)
        playout.mark_sent("m", at=start)
        playout.mark_echoed("m", at=start + echo_after)
        assert playout.lag_ms <= 20.0 + 500.0 / 4
    assert playout.lag_ms == 20.0


# ------------------------------------------------------------------------------- against a known truth


@dataclass
class Carrier:
    """A carrier in virtual time: constant delays there and back, a buffer, marks and clears. Times in ms."""

    there: float
    back: float
    played: list[tuple[float, float]] = field(default_factory=list)
    echoes: list[tuple[float, str, str]] = field(default_factory=list)
    buffered: list[tuple[float, float, str]] = field(default_factory=list)
    free: float = 0.0

    def audio(self, duration: float, at: float) -> None:
        begins = max(at + self.there, self.free)
        self.free = begins + duration
        self.buffered.append((begins, self.free, ""))

    def mark(self, name: str, at: float) -> None:
        due = max(at + self.there, self.free)
        self.buffered.append((due, due, name))

    def clear(self, at: float) -> None:
        arrives = at + self.there
        for begins, ends, name in self.buffered:
            if name:
                outcome, when = ("played", ends) if ends <= arrives else ("cleared", arrives)
                self.echoes.append((when + self.back, name, outcome))
            else:
                self.played.append((min(begins, arrives), min(ends, arrives)))
        self.buffered, self.free = [], arrives

    def flush(self) -> None:
        """Everything still buffered is played out."""
        self.clear(float("inf"))

    def heard(self, at: float) -> float:
        pieces = self.played + [(begins, ends) for begins, ends, name in self.buffered if not name]
        return sum(max(0.0, min(ends, at) - begins) for begins, ends in pieces)


Sent = tuple[float, str, float, str]
"""When, what (audio, mark or clear), milliseconds of audio, name of the mark."""

utterances = st.lists(
    st.tuples(
        st.integers(min_value=1, max_value=40),  # chunks of 40 ms
        st.integers(min_value=0, max_value=1500),  # silence after its last chunk, ms
        st.one_of(st.none(), st.integers(min_value=0, max_value=1600)),  # cut off after so many ms
    ),
    min_size=1,
    max_size=6,
)


def script(plan: list[tuple[int, int, int | None]]) -> list[Sent]:
    """What pipecat would send: chunks paced one ahead, a mark after each utterance, or a clear within it."""
    sent: list[Sent] = []
    now = 0.0
    for number, (chunks, silence, cut_after) in enumerate(plan):
        times = [now + max(0, index - 1) * 40.0 for index in range(chunks)]
        if cut_after is None:
            sent += [(at, "audio", 40.0, "") for at in times]
            now = times[-1]
            sent.append((now, "mark", 0.0, f"m{number}"))
        else:
            cut = now + cut_after
            sent += [(at, "audio", 40.0, "") for at in times if at < cut]
            if times[-1] < cut:
                sent.append((times[-1], "mark", 0.0, f"m{number}"))
            sent.append((cut, "clear", 0.0, ""))
            now = cut
        now += silence
    return sent


def played_by(carrier: Carrier, sent: list[Sent]) -> None:
    """Let the carrier have everything, so that its whole truth is known."""
    for at, what, duration, name in sent:
        if what == "audio":
            carrier.audio(duration, at)
        elif what == "mark":
            carrier.mark(name, at)
        else:
            carrier.clear(at)
    carrier.flush()


def apply_event(playout: Playout, what: str, at: float, duration: float, name: str) -> None:
    """Give the model one piece of evidence; an echo's fate must be the carrier's truth."""
    if what == "audio":
        playout.audio_sent(duration, at)
    elif what == "mark":
        playout.mark_sent(name, at)
    elif what == "clear":
        playout.cleared(at)
    else:
        assert playout.mark_echoed(name, at) == what


@settings(deadline=None)  # the machine may be busy
@given(utterances, st.integers(0, 150), st.integers(0, 150))
def test_with_steady_delays_the_model_knows_what_was_heard(
    plan: list[tuple[int, int, int | None]], there: int, back: int
) -> None:
    """Once a mark has returned, the estimate is what was played, late by at most the return path's delay."""
    carrier, playout = Carrier(there, back), Playout()
    sent = script([(5, 3000, None), *plan])
    played_by(carrier, sent)
    events = sent + [(at, outcome, 0.0, name) for at, name, outcome in carrier.echoes]
    cuts = [at for at, what, _, _ in sent if what == "clear"]
    first_echo = min(at for at, _, _ in carrier.echoes)
    for at, what, duration, name in sorted(events, key=lambda event: event[0]):
        apply_event(playout, what, at, duration, name)
        if at >= first_echo:
            # Until a clear has arrived the carrier plays on, which the model counts at once.
            ahead = there if any(at - there <= cut <= at for cut in cuts) else 0
            assert carrier.heard(at - back) - 1e-3 <= playout.heard_ms(at) <= carrier.heard(at + ahead) + 1e-3
    end = max(event[0] for event in events) + 10_000.0
    assert playout.all_heard(end)
    assert playout.heard_ms(end) == pytest.approx(carrier.heard(float("inf")), abs=1e-3)


# --------------------------------------------------------------------------------------------- waiting


class Stopwatch:
    """Milliseconds of the event loop's clock since the start."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._zero = self._loop.time()

    def __call__(self) -> float:
        return (self._loop.time() - self._zero) * 1000.0


async def test_waiting_ends_when_the_mark_comes_back() -> None:
    """A wait ends when the mark returns, before the elapsed time would end it."""
    now = Stopwatch()
    playout = Playout()
    watch = PlayoutWaiter(playout, now)
    playout.audio_sent(10_000.0, now())
    playout.mark_sent("a", now())
    waiting = asyncio.create_task(watch.wait_all_heard(30.0))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    playout.mark_echoed("a", now())
    watch.changed()
    assert await asyncio.wait_for(waiting, 9.0)


async def test_waiting_ends_on_a_clear_and_ignores_audio_sent_later() -> None:
    """A wait concerns the audio sent before it, and ends on a clear."""
    now = Stopwatch()
    playout = Playout()
    watch = PlayoutWaiter(playout, now)
    playout.audio_sent(10_000.0, now())
    waiting = asyncio.create_task(watch.wait_all_heard(30.0))
    await asyncio.sleep(0.01)
    playout.cleared(now())
    watch.changed()
    playout.audio_sent(10_000.0, now())
    assert await asyncio.wait_for(waiting, 9.0)


async def test_waiting_without_marks_ends_by_time_alone() -> None:
    """Without returned marks a wait ends after the audio's duration and the margin."""
    now = Stopwatch()
    playout = Playout()
    watch = PlayoutWaiter(playout, now)
    began = now()
    playout.audio_sent(50.0, began)
    assert await watch.wait_all_heard(5.0)
    assert now() - began >= 50.0 + BLIND_MARGIN_MS - 1.0


async def test_wait_times_out() -> None:
    """A wait that exceeds its timeout returns False."""
    now = Stopwatch()
    playout = Playout()
    playout.audio_sent(10_000.0, now())
    assert not await PlayoutWaiter(playout, now).wait_all_heard(0.05)
    assert now() < 10_000.0  # that is, not at the end of the audio


@pytest.mark.parametrize(
    ("cleared_at", "heard"), [(0.0, 200.0), (150.0, 200.0), (199.0, 200.0), (350.0, 400.0)]
)
def test_a_clear_of_whole_pieces_lets_the_piece_that_sounds_end(cleared_at: float, heard: float) -> None:
    """Only pieces that have not begun are dropped, and later audio begins after the current one."""
    playout = Playout(clears_whole_pieces=True)
    playout.audio_sent(200.0, at=-1.0)
    for at in (0.0, 200.0):
        playout.audio_sent(200.0, at=at)
    playout.cleared(at=cleared_at)
    assert playout.heard_ms(cleared_at) == heard
    assert not playout.all_heard(heard - 2.0)
    assert playout.all_heard(heard)
    playout.audio_sent(200.0, at=cleared_at + 1.0)
    assert playout.ends_at() == pytest.approx(max(heard - 1.0, cleared_at + 1.0) + 200.0)


def test_a_clear_of_whole_pieces_between_two_utterances_drops_nothing() -> None:
    """What has been played to its end stays heard, and a piece that has not begun is dropped whole."""
    playout = Playout(clears_whole_pieces=True)
    playout.audio_sent(200.0, at=0.0)
    playout.cleared(at=500.0)
    assert (playout.heard_ms(500.0), playout.all_heard(500.0)) == (200.0, True)
