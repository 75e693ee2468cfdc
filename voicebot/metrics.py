"""Metrics for Prometheus. Each server has its own registry, so that servers in one process are separate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric, Sample
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/."""

REASON_OF_AGENT = "agent"
"""The `end_reason` label of every call that an agent ended."""

_LIVE = "voicebot_calls_live"
_LAG = "voicebot_event_loop_lag_seconds"
_ADDED_GAUGES = frozenset({_LIVE})
"""Gauges that are summed over the workers of a server."""

_WORKER_GAUGES = frozenset({_LAG})
"""Gauges of one process, which get the label of the worker. All other gauges describe what the workers share,
such as the database; their highest value is used."""

_WEBHOOK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        """Register all metrics, at zero."""
        self.registry = CollectorRegistry()
        self._live = Gauge(_LIVE, "Calls that this server runs.", registry=self.registry)
        self._ended = Counter(
            "voicebot_calls_ended_total",
            "Calls of this server that have ended.",
            ["ended_by", "end_reason"],
            registry=self.registry,
        )
        self.media_refused = Counter(
            "voicebot_media_refused_total",
            "Media sockets that were closed before a call.",
            ["carrier"],
            registry=self.registry,
        )
        self.stream_errors = Counter(
            "voicebot_stream_errors_total",
            "Media streams that the carrier reported as failed.",
            ["carrier"],
            registry=self.registry,
        )
        self.provider_failures = Counter(
            "voicebot_provider_failures_total",
            "Failures of services during calls.",
            ["part"],
            registry=self.registry,
        )
        self.limit_reached = Counter(
            "voicebot_limit_reached_total",
            "Requests and connections that were refused or closed because of a limit.",
            ["limit"],
            registry=self.registry,
        )
        self.calls_refused = Counter(
            "voicebot_calls_refused_total",
            "New calls that were given their number's fallback because this server was full.",
            ["reason"],
            registry=self.registry,
        )
        self._lag = Gauge(
            _LAG,
            "Smoothed delay of the event loop, which carries the audio of all calls.",
            registry=self.registry,
        )
        self._provider_state = Gauge(
            "voicebot_provider_state",
            "1 for the state that a provider is in, 0 for the others.",
            ["kind", "provider", "state"],
            registry=self.registry,
        )
        self.webhook_seconds = Histogram(
            "voicebot_webhook_seconds",
            "Time to answer a carrier's webhook.",
            ["carrier", "webhook", "status"],
            buckets=_WEBHOOK_BUCKETS,
            registry=self.registry,
        )

    def watch_live(self, live: Callable[[], int]) -> None:
        """Take the number of live calls from ``live`` whenever metrics are read."""
        self._live.set_function(live)

    def watch_lag(self, seconds: Callable[[], float]) -> None:
        """Take the event loop's lag from ``seconds`` whenever metrics are read."""
        self._lag.set_function(seconds)

    def watch_providers(
        self, providers: Iterable[tuple[str, str]], states: Iterable[str], state: Callable[[str, str], str]
    ) -> None:
        """Take the state of each provider of a kind from ``state`` whenever metrics are read."""
        for kind, provider in providers:
            for each in states:
                gauge = self._provider_state.labels(kind, provider, each)
                gauge.set_function(_is_in(state, kind, provider, each))

    def count_end(self, ended_by: str | None, end_reason: str | None) -> None:
        """Count the end of a call. An agent's reason is free text, so it is not used as a label."""
        reason = REASON_OF_AGENT if ended_by == "agent" else end_reason
        self._ended.labels(ended_by or "unknown", reason or "unknown").inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _is_in(state: Callable[[str, str], str], kind: str, provider: str, wanted: str) -> Callable[[], float]:
    return lambda: float(state(kind, provider) == wanted)


class _Merged(Collector):
    """The metrics of several workers as those of one server."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for worker, text in sorted(self._texts.items()):
            for family in text_string_to_metric_families(text):
                families.setdefault(family.name, family)
                known = values.setdefault(family.name, {})
                for sample in family.samples:
                    key = sample.name, tuple(sorted(_labels(sample, worker).items()))
                    known[key] = _merge(family, sample, known.get(key))
        for name, family in families.items():
            metric = Metric(name, family.documentation, family.type)
            for (sample_name, labels), value in values[name].items():
                metric.add_sample(sample_name, dict(labels), value)
            yield metric


def merged(texts: Mapping[int, str]) -> bytes:
    """The metrics of all workers of a server in Prometheus' text format, from the texts of each by number.

    Counters and histograms are added. A worker that was started again begins at zero, which Prometheus takes
    for a restart of the server.
    """
    registry = CollectorRegistry()
    registry.register(_Merged(texts))
    Gauge("voicebot_workers", "Worker processes whose metrics are in these.", registry=registry).set(
        len(texts)
    )
    return generate_latest(registry)


def _labels(sample: Sample, worker: int) -> Mapping[str, str]:
    return {**sample.labels, "worker": str(worker)} if sample.name in _WORKER_GAUGES else sample.labels


def _merge(family: Metric, sample: Sample, known: float | None) -> float:
    if known is None:
        return sample.value
    if sample.name.endswith("_created"):  # the time since when it counts
        return min(known, sample.value)
    if family.type == "gauge" and sample.name not in _ADDED_GAUGES:
        return max(known, sample.value)
    return known + sample.value
