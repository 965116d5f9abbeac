"""What was measured on this machine, kept in ``$LMRUN_HOME/measurements.json``.

`Ceilings` are what `lmrun doctor --measure` found of the machine; an `Observation` is what a real
run of a workspace showed. Plans print their estimates beside both. The file is a memory aid:
damaged or unreadable, it is forgotten, and written anew by the next measurement.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

from lmrun.artifacts.canonical import digest
from lmrun.artifacts.files import storage_errors, write_json
from lmrun.json_schema import closed

FILE_NAME = "measurements.json"
SCHEMA_VERSION = 2
ENOUGH_STEPS = 16
"""A rate over fewer steps gives way to one over as many; among equals the better one stays."""


@dataclass(frozen=True, kw_only=True)
class MachineIdentity:
    """What the figures of one machine have in common."""

    cpu: str
    """Model name, as /proc/cpuinfo spells it."""
    vendor: str
    isa: str
    """Highest level the CPU has: `generic`, `avx2`, `avx512`, `amx`."""
    cores: int
    """Cores a process may use: affinity and cgroup quota."""
    memory_bytes: int
    """Installed, or the cgroup's limit where that is lower."""


@dataclass(frozen=True, kw_only=True)
class SchemeRates:
    """What the linear of one weight scheme reaches with all cores."""

    decode_bytes_per_s: float
    """One row: bytes of codes, scales and zeros read from memory."""
    cached_decode_bytes_per_s: float
    """One row, a matrix small enough to stay in the last-level cache."""
    prefill_flops_per_s: float
    """`Ceilings.prefill_rows` rows, weights from memory; a multiply-add counts as two."""


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The best that the engine's own kernels reach on a machine, all cores together."""

    machine: MachineIdentity
    engine_build: str
    """Ceilings of another build are not used."""
    isa: str
    """Of the kernels: `generic`, `avx512` or `amx`."""
    threads: int
    """Threads that took part: rates of fewer threads are about in proportion."""
    read_bytes_per_s: float
    """A plain read of memory in 2 MiB pages."""
    flops_per_s: float
    """fp32 multiply-adds on registers alone; a multiply-add counts as two."""
    cache_bytes: int
    """Last-level cache, 0 where unknown: matrices that fit together are read from there."""
    schemes: dict[str, SchemeRates]
    """By scheme: `u4`, `u8`, `i8`, `F16`, `BF16`, `F32`; `u4a16`, `u4a8` and the like with fewer
    bits of activations."""
    prefill_rows: int
    attention_bytes_per_s: dict[str, float]
    """By KV bits (`4`, `8`, `16`, `32`): K and V bytes of the cache that decode reads a second."""
    attention_flops_per_s: float
    """Prefill in a 16-bit cache: q·k and p·v, a multiply-add counts as two."""
    step_overhead_s: float
    """Of a decode step of one sequence, beside what its layers take: sampling, messages."""
    layer_overhead_s: float
    """Of a layer in such a step, beside reading weights and KV: waking threads, norms."""
    serving_token_s: float
    """CPU time of the server for a token that it streams. An engine whose threads have all cores
    waits for it: they work in step."""
    process_bytes: int
    """Resident memory of an engine process beside weights, KV blocks and activations."""
    measured_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True)
class ObservationKey:
    """Which runs belong together. Make it with `observation_key`."""

    workspace: str
    settings_digest: str
    machine: MachineIdentity


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Tokens per second of one kind of step, in the best stretch of a run."""

    tokens_per_s: float
    steps: int
    """How many steps are behind it."""
    mean_context: float
    """Tokens in the cache before the step, mean over its sequences."""
    mean_seqs: float
    """Sequences in a step."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What runs of one workspace with the same settings showed. Peaks are those of one process."""

    key: ObservationKey
    engine_build: str
    weights_resident_bytes: int
    """Pages of the mapped workspace file in memory."""
    kv_resident_bytes: int
    """Pages of the KV blocks in memory; blocks take memory when first used."""
    touched_blocks: int
    """KV blocks that were ever used: ``kv_resident_bytes`` is theirs, rounded up to a page."""
    peak_used_blocks: int
    """KV blocks that requests held at one time."""
    peak_rss_bytes: int
    """Peak resident memory of the engine process."""
    decode: Rate | None
    """Steps of one sequence that decodes alone; None while there was none."""
    decode_all: Rate | None
    """All steps that only decode."""
    prefill: Rate | None
    """Steps that compute prompt tokens; prompt tokens per second."""
    seconds_to_ready: float | None
    """Of the engine, from its settings to its first token."""
    recorded_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True)
class _Document:
    """The file."""

    schema_version: int
    ceilings: list[Ceilings]
    """One a machine."""
    observations: list[Observation]


def now() -> str:
    """This moment, as the records spell it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the CPU; `unknown` where the system does not say."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return "unknown"


def observation_key(
    home: Path, settings: Mapping[str, Any], machine: MachineIdentity
) -> ObservationKey:
    """The key of a deployment; ``settings`` are the fields of `EngineSettings` as planned.

    A workspace in the store counts by its fingerprint, so that a store may move.
    """
    workspace = Path(settings["workspace"])
    if workspace.is_relative_to(home):
        workspace = workspace.relative_to(home)
    rest = {name: value for name, value in settings.items() if name != "workspace"}
    return ObservationKey(
        workspace=workspace.as_posix(), settings_digest=digest(rest), machine=machine
    )


def load_ceilings(
    home: Path, machine: MachineIdentity, engine_build: str | None = None
) -> Ceilings | None:
    """The ceilings of this machine; None where it was not measured, or with another build.

    ``engine_build`` None accepts any build: for a caller that must not load the engine.
    """
    for ceilings in _read(home).ceilings:
        if ceilings.machine == machine and engine_build in (None, ceilings.engine_build):
            return ceilings
    return None


def save_ceilings(home: Path, ceilings: Ceilings) -> None:
    """Keep the ceilings of this machine, joined with those of the same engine build: other work
    only ever slows a measurement. `ArtifactError` when it cannot."""

    def put(document: _Document) -> _Document:
        others = [old for old in document.ceilings if old.machine != ceilings.machine]
        known = [old for old in document.ceilings if old.machine == ceilings.machine]
        return replace(document, ceilings=[*others, best_of([*known, ceilings])])

    _update(home, put)


def best_of(measured: Sequence[Ceilings]) -> Ceilings:
    """The last of several, with the best figure of each of those that are of its build."""
    last = measured[-1]
    alike = [
        one
        for one in measured
        if (one.machine, one.engine_build, one.isa, one.threads)
        == (last.machine, last.engine_build, last.isa, last.threads)
    ]
    return replace(
        last,
        read_bytes_per_s=max(one.read_bytes_per_s for one in alike),
        flops_per_s=max(one.flops_per_s for one in alike),
        schemes={
            name: SchemeRates(
                decode_bytes_per_s=max(one.schemes[name].decode_bytes_per_s for one in alike),
                cached_decode_bytes_per_s=max(
                    one.schemes[name].cached_decode_bytes_per_s for one in alike
                ),
                prefill_flops_per_s=max(one.schemes[name].prefill_flops_per_s for one in alike),
            )
            for name in last.schemes
        },
        attention_bytes_per_s={
            bits: max(one.attention_bytes_per_s[bits] for one in alike)
            for bits in last.attention_bytes_per_s
        },
        attention_flops_per_s=max(one.attention_flops_per_s for one in alike),
        step_overhead_s=min(one.step_overhead_s for one in alike),
        layer_overhead_s=min(one.layer_overhead_s for one in alike),
        serving_token_s=min(one.serving_token_s for one in alike),
    )


def find_observation(home: Path, key: ObservationKey) -> Observation | None:
    """What runs with this key showed, or None."""
    found = (old for old in _read(home).observations if old.key == key)
    return next(found, None)


def record_observation(home: Path, observation: Observation) -> None:
    """Join an observation with what is known under its key. `ArtifactError` when it cannot.

    Peaks are those of the run that took most memory. A rate stays while no run does better, since
    other work on a machine only ever slows one. Another engine build starts afresh.
    """

    def put(document: _Document) -> _Document:
        others = [old for old in document.observations if old.key != observation.key]
        known = [old for old in document.observations if old.key == observation.key]
        joined = _joined(known[0], observation) if known else observation
        return replace(document, observations=[*others, joined])

    _update(home, put)


def _joined(old: Observation, new: Observation) -> Observation:
    if old.engine_build != new.engine_build:
        return new
    peak = new if new.peak_rss_bytes >= old.peak_rss_bytes else old
    ready = new.seconds_to_ready
    return replace(
        peak,
        decode=_better(old.decode, new.decode),
        decode_all=_better(old.decode_all, new.decode_all),
        prefill=_better(old.prefill, new.prefill),
        seconds_to_ready=old.seconds_to_ready if ready is None else ready,
        recorded_at=new.recorded_at,
    )


def _better(old: Rate | None, new: Rate | None) -> Rate | None:
    if old is None or new is None:
        return new if old is None else old
    if (old.steps < ENOUGH_STEPS) != (new.steps < ENOUGH_STEPS):
        return new if new.steps >= ENOUGH_STEPS else old
    return new if new.tokens_per_s >= old.tokens_per_s else old


@cache
def schema() -> dict[str, Any]:
    """JSON Schema of ``measurements.json``, made from the types above."""
    document = closed(msgspec.json.schema(_Document))
    document["$defs"]["_Document"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return document


def _read(home: Path) -> _Document:
    """The document; an empty one where there is none, or none that can be understood."""
    try:
        found: _Document = msgspec.json.decode((home / FILE_NAME).read_bytes(), type=_Document)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return _Document(schema_version=SCHEMA_VERSION, ceilings=[], observations=[])
    if found.schema_version != SCHEMA_VERSION:
        return _Document(schema_version=SCHEMA_VERSION, ceilings=[], observations=[])
    return found


def _update(home: Path, change: Callable[[_Document], _Document]) -> None:
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f"{FILE_NAME}.lock"):
            write_json(home / FILE_NAME, asdict(change(_read(home))))
