"""Sound on a line of time, and the µ-law it travels as."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voicebot.sandbox.audio.mulaw import decode, encode, through_the_line
from voicebot.sandbox.carrier.timeline import TICK, Timeline

# ITU-T G.711, table 2a: the decision values' outputs of the positive and negative segments, at 16 bits.
KNOWN = {0xFF: 0, 0x7F: 0, 0x80: 32124, 0x00: -32124, 0xFE: 8, 0x7E: -8, 0xF0: 120, 0x8F: 16764}


def test_mu_law_agrees_with_the_standard() -> None:
    """Known codes expand to the standard's values."""
    assert {code: int(decode(bytes([code]))[0]) for code in KNOWN} == KNOWN


def test_every_code_survives_the_line() -> None:
    """Expanding and compressing again gives the same code, but for the two zeros."""
    codes = bytes(code for code in range(256) if code != 0x7F)
    assert encode(decode(codes)) == codes


def test_every_sample_comes_back_within_its_segments_precision() -> None:
    """The error of µ-law is at most half a step, or the distance to the loudest value it knows."""
    samples = np.arange(-32768, 32768).astype(np.int16)
    error = np.abs(through_the_line(samples).astype(np.int32) - samples.astype(np.int32))
    magnitude = np.abs(samples.astype(np.int32)) + 132
    assert (error <= np.maximum(magnitude // 32 + 1, magnitude - 132 - 32124)).all()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 900)),
            st.tuples(st.just("clear"), st.just(0)),
            st.tuples(st.just("advance"), st.integers(1, 4)),
        ),
        max_size=60,
    )
)
def test_timeline_plays_what_a_list_of_samples_would(moves: list[tuple[str, int]]) -> None:
    """Appending, clearing and advancing leave exactly the sound that a plain queue would have played."""
    timeline, value = Timeline(), 0
    queue: list[int] = []
    played: list[int] = []
    for move, count in moves:
        if move == "append":
            value = value % 1000 + 1
            start = timeline.append(np.full(count, value, np.int16), timeline.cursor)
            assert start == timeline.cursor + len(queue)
            queue += [value] * count
        elif move == "clear":
            assert timeline.clear(timeline.cursor) == len(queue)
            queue = []
        else:
            for _ in range(count):
                frame = (queue[:TICK] + [0] * TICK)[:TICK]
                queue = queue[TICK:]
                assert timeline.advance(TICK).tolist() == frame
                played += frame
    assert timeline.sounded().tolist() == played


def test_sound_that_comes_late_begins_at_its_moment() -> None:
    """Audio that arrives after a pause sounds from the sample of its arrival, not from the next frame."""
    timeline = Timeline()
    timeline.advance(TICK)
    assert timeline.append(np.ones(10, np.int16), at=203) == 203
    assert np.flatnonzero(timeline.advance(TICK)).tolist() == list(range(43, 53))


def test_stutter_is_counted_and_a_pause_is_not() -> None:
    """Only a hole of under 100 ms between two pieces counts as a hiccup."""
    timeline = Timeline()
    timeline.append(np.ones(160, np.int16), at=0)
    timeline.append(np.ones(160, np.int16), at=160)
    assert timeline.hiccups == 0
    timeline.append(np.ones(160, np.int16), at=400)
    assert timeline.hiccups == 1
    timeline.append(np.ones(160, np.int16), at=8000)
    assert timeline.hiccups == 1


def test_long_calls_grow_the_line() -> None:
    """A recording longer than the first allocation keeps every sample."""
    timeline = Timeline()
    sound = (np.arange(500_000) % 30_000).astype(np.int16)
    timeline.append(sound, at=0)
    timeline.advance(500_000)
    assert np.array_equal(timeline.sounded(), sound)
