"""From an engine's counters to the record of what a run showed."""

from collections.abc import Mapping

from lmrun.artifacts.measurements import ENOUGH_STEPS, Observation, ObservationKey, Rate, now
from lmrun.engine.messages import Memory, Stats, StepCounts

KINDS = ("decode_one", "decode", "prefill")
"""Fields of `Stats` that become rates."""
ENOUGH_SECONDS = 1.0
"""Fewer steps are enough where they take this long."""


def build_name(build_info: Mapping[str, str]) -> str:
    """One line that names an engine build; figures of another build are not compared."""
    return "; ".join(f"{name} {value}" for name, value in build_info.items())


class BestRates:
    """The best stretch of a run for each kind of step: other work on a machine only ever slows one.

    A stretch is what lies between two looks at the counters, once it holds enough steps.
    """

    def __init__(self) -> None:
        self._begin: dict[str, Stats] = {}
        self._last: Stats | None = None
        self._best: dict[str, Rate] = {}

    def add(self, stats: Stats) -> None:
        """Look at the counters of the engine; those of a new process begin afresh."""
        if self._last is not None and stats.num_steps < self._last.num_steps:
            self._begin.clear()
        self._last = stats
        for kind in KINDS:
            counts, between = self._since(kind, stats)
            if counts.steps < ENOUGH_STEPS and counts.seconds < ENOUGH_SECONDS:
                continue
            self._begin[kind] = stats
            rate, best = _rate(counts, between), self._best.get(kind)
            if rate is not None and (best is None or rate.tokens_per_s > best.tokens_per_s):
                self._best[kind] = rate

    def of(self, kind: str) -> Rate | None:
        """The best stretch, or the steps so far where there is none; None without steps."""
        if kind in self._best or self._last is None:
            return self._best.get(kind)
        return _rate(*self._since(kind, self._last))

    def _since(self, kind: str, stats: Stats) -> tuple[StepCounts, float]:
        """What was counted since the stretch began, and what a step took beside itself."""
        before = self._begin.get(kind)
        now: StepCounts = getattr(stats, kind)
        if before is None:
            return now, _between(stats, 0.0, 0)
        was: StepCounts = getattr(before, kind)
        counts = StepCounts(
            steps=now.steps - was.steps,
            seqs=now.seqs - was.seqs,
            tokens=now.tokens - was.tokens,
            context=now.context - was.context,
            seconds=now.seconds - was.seconds,
        )
        beside = before.busy_seconds - before.step_seconds
        return counts, _between(stats, beside, before.num_steps)


def _between(stats: Stats, beside: float, steps: int) -> float:
    """Seconds that the step loop spent beside a native step, mean of the steps since."""
    spent = stats.busy_seconds - stats.step_seconds - beside
    return max(0.0, spent) / max(1, stats.num_steps - steps)


def observation(
    key: ObservationKey, engine_build: str, stats: Stats, memory: Memory, rates: BestRates
) -> Observation:
    """What the answers of one engine process say.

    A rate counts what the step loop spends between the native steps too, spread evenly over them:
    it is what a client sees.
    """
    return Observation(
        key=key,
        engine_build=engine_build,
        weights_resident_bytes=memory.weights_bytes or 0,
        kv_resident_bytes=memory.kv_bytes or 0,
        touched_blocks=stats.touched_blocks,
        peak_used_blocks=stats.peak_used_blocks,
        peak_rss_bytes=memory.peak_rss_bytes,
        decode=rates.of("decode_one"),
        decode_all=rates.of("decode"),
        prefill=rates.of("prefill"),
        seconds_to_ready=memory.seconds_to_ready or None,
        recorded_at=now(),
    )


def _rate(counts: StepCounts, between: float) -> Rate | None:
    if counts.steps == 0:
        return None
    return Rate(
        tokens_per_s=counts.tokens / (counts.seconds + between * counts.steps),
        steps=counts.steps,
        mean_context=counts.context / counts.seqs,
        mean_seqs=counts.seqs / counts.steps,
    )
