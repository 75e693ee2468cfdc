"""The Prometheus metrics of handoffs: voicebot.handoffs.queue_metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from tests.handoffs.fixtures import HandoffEnvironment
from voicebot.handoffs.queue_metrics import HISTORY, QueueMetrics


async def test_ended_handoffs_are_counted_once_a_minute(env: HandoffEnvironment) -> None:
    """Open handoffs are those of the moment; to count ended ones, all of them must be read."""
    registry = CollectorRegistry()
    metrics = QueueMetrics(env.database, env.clock, registry)

    async def seen() -> tuple[float | None, float | None]:
        await metrics.update()
        cancelled = registry.get_sample_value("voicebot_handoffs", {"state": "cancelled"})
        return registry.get_sample_value("voicebot_handoffs_open"), cancelled

    async def cancel() -> None:
        await env.database.execute(
            "UPDATE handoffs SET state = 'cancelled', ended_at = now() WHERE ended_at IS NULL"
        )

    await env.escalate()
    await cancel()
    await env.escalate()
    assert await seen() == (1, 1)
    await cancel()
    assert await seen() == (0, 1)
    env.clock.advance(seconds=HISTORY.total_seconds())
    assert await seen() == (0, 2)
