"""What /metrics shows: counters of the server, and the engine's as its last `Stats` had them."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lmrun.engine.messages import Stats

_TTFT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_ITL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """One registry of its own, so that two apps in a process do not collide."""

    def __init__(self, last_stats: Callable[[], Stats | None]) -> None:
        registry = self._registry = CollectorRegistry()
        registry.register(_EngineCollector(last_stats))
        self.ttft = Histogram(
            "lmrun_time_to_first_token_seconds",
            "From the request to its first token",
            buckets=_TTFT_S,
            registry=registry,
        )
        self.inter_token_latency = Histogram(
            "lmrun_inter_token_latency_seconds",
            "Between two tokens of a completion",
            buckets=_ITL_S,
            registry=registry,
        )
        self.requests = Counter(
            "lmrun_requests_total",
            "Completions by how they ended, and requests refused",
            ["outcome"],
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "lmrun_prompt_tokens_total", "Prompt tokens of answered requests", registry=registry
        )
        self.completion_tokens = Counter(
            "lmrun_completion_tokens_total", "Completion tokens sent", registry=registry
        )
        for outcome in ("stop", "length", "abort", "error", "refused"):
            self.requests.labels(outcome)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, last_stats: Callable[[], Stats | None]) -> None:
        self._last_stats = last_stats

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self._last_stats()
        if stats is None:
            return
        for name, text, value in (
            ("lmrun_kv_blocks_total", "KV blocks of the engine", stats.num_blocks),
            ("lmrun_kv_blocks_used", "KV blocks that running requests hold", stats.used_blocks),
            ("lmrun_requests_running", "Requests in the batch", stats.running),
            ("lmrun_requests_waiting", "Requests that wait for blocks or a seat", stats.waiting),
            ("lmrun_last_step_sequences", "Sequences of the last step", stats.last_step_seqs),
            ("lmrun_engine_rss_bytes", "Resident memory of the engine", stats.rss_bytes),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        for name, text, value in (
            ("lmrun_engine_steps", "Steps of the engine", stats.num_steps),
            ("lmrun_engine_prompt_tokens", "Prompt tokens computed or reused", stats.prompt_tokens),
            ("lmrun_engine_completion_tokens", "Tokens sampled", stats.completion_tokens),
            ("lmrun_cached_tokens", "Prompt tokens found in the prefix cache", stats.cached_tokens),
            ("lmrun_preemptions", "Sequences put back to be computed again", stats.preemptions),
        ):
            yield CounterMetricFamily(name, text, value=value)
        buckets, count, total = [], 0, 0
        for index, steps in enumerate(stats.seqs_per_step):
            count += steps
            total += steps * (index + 1)
            buckets.append((f"{index + 1}.0", float(count)))
        yield HistogramMetricFamily(
            "lmrun_sequences_per_step",
            "Sequences that one step held",
            buckets=[*buckets, ("+Inf", float(count))],
            sum_value=total,
        )
