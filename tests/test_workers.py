"""What the worker processes of a server tell each other, and their metrics as those of one server."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from db.ids import new_id
from tests.test_admission import SteppedClock
from voicebot.admission import Admission
from voicebot.metrics import Metrics, merged
from voicebot.workers import Load, SharedLoad, Worker


@pytest.fixture
def clock() -> SteppedClock:
    """The clock of all workers."""
    return SteppedClock()


def admission(
    clock: SteppedClock, live: set[UUID], number: int, directory: Path, *, max_calls: int | None = 1
) -> Admission:
    """Return the admission of one of two workers, each of which may have one call."""
    worker = Worker(number=number, count=2, directory=directory)
    return Admission(clock, lambda: live, max_calls=max_calls, max_lag_ms=20, worker=worker)


def test_workers_admit_as_many_calls_as_all_of_them_may_have(clock: SteppedClock, tmp_path: Path) -> None:
    """Two workers of one call each admit two, whichever of them is asked."""
    first, second = (admission(clock, set(), number, tmp_path) for number in range(2))
    first.expect(new_id())
    assert (first.refusal(), second.refusal()) == (None, None)
    first.expect(new_id())
    assert (first.refusal(), second.refusal()) == ("max_calls", "max_calls")


def test_a_call_counts_once_when_its_stream_opens_at_another_worker(
    clock: SteppedClock, tmp_path: Path
) -> None:
    """The worker that admitted a call does not expect it any more when another one has it."""
    live: set[UUID] = set()
    admitting, answering = admission(clock, set(), 0, tmp_path), admission(clock, live, 1, tmp_path)
    admitting.expect(call_id := new_id())
    live.add(call_id)
    answering.share()
    admitting.share()
    assert (admitting.refusal(), answering.refusal()) == (None, None)
    assert (admitting.live, answering.live) == (1, 1)


def test_a_late_worker_keeps_calls_from_all(clock: SteppedClock, tmp_path: Path) -> None:
    """No worker admits a call while one of them is late, because its stream may open there."""
    first = admission(clock, {new_id()}, 0, tmp_path, max_calls=None)
    second = admission(clock, set(), 1, tmp_path, max_calls=None)
    for _ in range(60):
        first.observe(100)
    first.share()
    assert second.refusal() == "late"


def test_a_worker_that_has_died_has_no_load(tmp_path: Path) -> None:
    """What the supervisor clears does not count; the others keep theirs."""
    first, second = (SharedLoad(Worker(number=n, count=3, directory=tmp_path)) for n in range(2))
    supervisor = SharedLoad(Worker(count=3, directory=tmp_path))
    third = SharedLoad(Worker(number=2, count=3, directory=tmp_path))
    first.opened(new_id())
    first.publish(Load(live=2, expected=1, late=True))
    second.opened(kept := new_id())
    second.publish(Load(live=3))
    assert third.others() == Load(live=5, expected=1, late=True)
    supervisor.clear(0)
    assert (third.others(), third.opened_elsewhere()) == (Load(live=3), {kept})


def test_the_newest_calls_of_a_worker_are_known(tmp_path: Path) -> None:
    """A worker names its last 64 calls."""
    first, second = (SharedLoad(Worker(number=n, count=2, directory=tmp_path)) for n in range(2))
    calls = [new_id() for _ in range(100)]
    for call_id in calls:
        first.opened(call_id)
    assert second.opened_elsewhere() == set(calls[-64:])


def test_metrics_of_workers_are_those_of_one_server() -> None:
    """Counters, histograms and live calls are added; a loop's lag names its worker; of the rest, the most."""
    workers = [Metrics() for _ in range(2)]
    for number, metrics in enumerate(workers, 1):
        metrics.watch_live(lambda number=number: number)  # type: ignore[misc]
        metrics.watch_lag(lambda number=number: number / 100)  # type: ignore[misc]
        metrics.count_end("caller", "hangup")
        metrics.webhook_seconds.labels("twilio", "voice", 200).observe(number / 100)
    workers[1].count_end("agent", "done")
    lines = merged({number: metrics.text().decode() for number, metrics in enumerate(workers)}).decode()
    for expected in (
        "voicebot_calls_live 3.0",
        'voicebot_calls_ended_total{end_reason="hangup",ended_by="caller"} 2.0',
        'voicebot_calls_ended_total{end_reason="agent",ended_by="agent"} 1.0',
        'voicebot_event_loop_lag_seconds{worker="0"} 0.01',
        'voicebot_event_loop_lag_seconds{worker="1"} 0.02',
        'voicebot_webhook_seconds_bucket{carrier="twilio",le="0.01",status="200",webhook="voice"} 1.0',
        'voicebot_webhook_seconds_bucket{carrier="twilio",le="+Inf",status="200",webhook="voice"} 2.0',
        "voicebot_workers 2.0",
    ):
        assert expected in lines.splitlines()
