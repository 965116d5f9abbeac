"""From an engine's counters to the record of what a run showed."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from lmrun.artifacts.measurements import (
    MachineIdentity,
    Observation,
    Rate,
    now,
    observation_key,
)
from lmrun.engine.messages import Memory, Stats, StepCounts
from lmrun.plan.engine_settings import EngineSettings


def build_name(build_info: Mapping[str, str]) -> str:
    """One line that names an engine build; figures of another build are not compared."""
    return "; ".join(f"{name} {value}" for name, value in build_info.items())


def observation(
    home: Path,
    planned: EngineSettings,
    machine: MachineIdentity,
    answers: tuple[Stats, Memory],
    engine_build: str,
) -> Observation:
    """What the answers of one engine process say; ``home`` is the folder of the store.

    A rate counts what the step loop spends between the native steps too, spread evenly over them:
    it is what a client sees.
    """
    stats, memory = answers
    between = max(0.0, stats.busy_seconds - stats.step_seconds) / max(1, stats.num_steps)
    return Observation(
        key=observation_key(home, asdict(planned), machine),
        engine_build=engine_build,
        weights_resident_bytes=memory.weights_bytes or 0,
        kv_resident_bytes=memory.kv_bytes or 0,
        touched_blocks=stats.touched_blocks,
        peak_used_blocks=stats.peak_used_blocks,
        peak_rss_bytes=memory.peak_rss_bytes,
        decode=_rate(stats.decode_one, between),
        decode_all=_rate(stats.decode, between),
        prefill=_rate(stats.prefill, between),
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
