"""The ceilings of this machine: what the engine's own kernels reach on it at most.

Each figure is the best of many short runs, since other work on a machine only ever slows one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmrun import _engine
from lmrun.artifacts.measurements import (
    Ceilings,
    MachineIdentity,
    SchemeRates,
    best_of,
    now,
)
from lmrun.bench.probe import measure_overheads
from lmrun.config.schema import BackendConfig
from lmrun.engine.observing import build_name

SCHEMES = ("u4", "u4a16", "u4a8", "u8", "u8a16", "u8a8", "i8", "F16", "BF16", "F32")
"""Of weights; `a16`, `a8`: with `backend.activation_bits` of 16 or 8, else 32."""
KV_BITS = (4, 8, 16, 32)
GROUP_SIZE = 128
INPUTS, OUTPUTS = 2048, 4096
CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
LIKELY_CACHE_BYTES = 32 << 20
"""Where the system does not tell its last-level cache."""
HEAD_DIM, KV_HEADS, GROUP = 64, 4, 8
DECODE_CONTEXT, PREFILL_CONTEXT = 1024, 256


@dataclass(frozen=True)
class Effort:
    """How long to look. The default takes about 25 s."""

    rounds: int = 2
    """Over all figures, a while apart: a busy machine has its quiet moments."""
    seconds: float = 0.25
    """For each figure and round."""
    requests: int = 24
    """To each engine process, a round."""
    caches: int = 32
    """Matrices that are to come from memory take so many times the last-level cache: of 8, a Zen 4
    still serves a part (51 GB/s, where a model of 2 GiB sees 35)."""


DEFAULT = Effort()


def measure(
    machine: MachineIdentity,
    say: Callable[[str], None],
    serving_token_s: float,
    effort: Effort | None = None,
) -> Ceilings:
    """Measure with all cores; ``say`` is told what comes next. What serving a token costs is
    measured by `lmrun.deploy.serving_cost`."""
    effort = effort or DEFAULT
    rounds = []
    for number in range(effort.rounds):
        say(f"round {number + 1} of {effort.rounds}")
        rounds.append(_round(machine, effort, serving_token_s))
    return best_of(rounds)


def _round(machine: MachineIdentity, effort: Effort, serving_token_s: float) -> Ceilings:
    threads = _engine.available_cpus()
    cache = cache_bytes()
    from_memory = min(effort.caches * (cache or LIKELY_CACHE_BYTES), machine.memory_bytes // 8)
    read = _engine.measure_read_bandwidth(threads, from_memory)
    flops = _engine.measure_flops(threads)
    bench = _Bench(threads, effort.seconds, cache or LIKELY_CACHE_BYTES, from_memory)
    schemes = {scheme: bench.scheme(scheme) for scheme in SCHEMES}
    attention = {
        str(bits): bench.attention(bits, 1, DECODE_CONTEXT)["bytes_per_s"] for bits in KV_BITS
    }
    prefill = bench.attention(16, 64, PREFILL_CONTEXT)["flops_per_s"]
    overheads = measure_overheads(threads, effort.requests)
    return Ceilings(
        machine=machine,
        engine_build=build_name(_engine.build_info()),
        isa=_engine.supported_isas()[0],
        threads=threads,
        read_bytes_per_s=read,
        flops_per_s=flops,
        cache_bytes=cache,
        schemes=schemes,
        prefill_rows=prefill_rows(),
        attention_bytes_per_s=attention,
        attention_flops_per_s=prefill,
        step_overhead_s=overheads.step_s,
        layer_overhead_s=overheads.layer_s,
        serving_token_s=serving_token_s,
        process_bytes=overheads.process_bytes,
        measured_at=now(),
    )


@dataclass(frozen=True)
class _Bench:
    threads: int
    seconds: float
    cache_bytes: int
    memory_bytes: int

    def scheme(self, scheme: str) -> SchemeRates:
        """One row from memory and from the cache, and a step of prefill."""
        cached = min(self.cache_bytes // 4, 6 << 20)
        return SchemeRates(
            decode_bytes_per_s=self._gemm(scheme, 1, OUTPUTS, self.memory_bytes)["bytes_per_s"],
            cached_decode_bytes_per_s=self._gemm(scheme, 1, 512, cached)["bytes_per_s"],
            prefill_flops_per_s=self._gemm(scheme, prefill_rows(), OUTPUTS, 2 * self.cache_bytes)[
                "flops_per_s"
            ],
        )

    def _gemm(self, scheme: str, rows: int, outputs: int, num_bytes: int) -> dict[str, float]:
        name, _, activation_bits = scheme.partition("a")
        return _engine.measure_gemm(
            isa="auto",
            format=name,
            activation_bits=int(activation_bits or 32),
            threads=self.threads,
            rows=rows,
            n=outputs,
            k=INPUTS,
            group_size=GROUP_SIZE,
            bytes=num_bytes,
            seconds=self.seconds,
        )

    def attention(self, bits: int, rows: int, context: int) -> dict[str, float]:
        """A sequence in a cache of so many bits."""
        return _engine.measure_attention(
            isa="auto",
            threads=self.threads,
            kv_bits=bits,
            rows=rows,
            context=context,
            num_layers=4,
            num_kv_heads=KV_HEADS,
            group=GROUP,
            head_dim=HEAD_DIM,
            seconds=self.seconds / 2,
        )


def prefill_rows() -> int:
    """The default token budget of a step."""
    return BackendConfig().max_batch_tokens


def cache_bytes(folder: Path = CACHE) -> int:
    """Size of the last-level cache that this core reads through; 0 where the system is silent."""
    sizes = [0]
    for file in folder.glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        digits = text.rstrip("KMG")
        if digits.isdigit():
            sizes.append(int(digits) * unit)
    return max(sizes)
