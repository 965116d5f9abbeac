"""`lmrun bench engine`: the engine alone beside its ceilings and its peers."""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.config import Composed, compose
from lmrun.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from lmrun.bench.engine import Entry
    from lmrun.bench.engine_cases import Settings
    from lmrun.bench.engine_entries import Against
    from lmrun.bench.trace import Trace
    from lmrun.plan.plan import Plan

ENGINE = "engine"
TAKEN: tuple[str, ...] = (
    *("--json", "--shape", "--kv-bits", "--activation-bits", "--isa", "--threads", "--batches"),
    *("--contexts", "--prefill", "--rounds", "--trace", "--requests", "--trace-speedup"),
    *("--quick", "--full", "--against", "--peers", "--gguf", "--install-peers"),
)
"""The flags it takes."""
FLAGS: Mapping[str, bool] = {
    name: name not in ("--quick", "--full") for name in TAKEN if name != "--json"
}
_REQUESTS = 32
_MOST = 1 << 20


@dataclass(frozen=True)
class _Ours:
    """One of our settings."""

    name: str
    composed: Composed
    plan: "Plan"


def run(given: Mapping[str, str], overrides: list[str]) -> ExitStatus:
    """Build what is missing, measure, print; status 5 where an engine failed."""
    if overrides:
        raise UsageError(f"bench engine: takes no settings, got {overrides[0]}.")
    if "--install-peers" in given:
        return _install(given)
    # what other benches do not need
    from lmrun.bench import engine, engine_report  # noqa: PLC0415
    from lmrun.bench.alone import timed  # noqa: PLC0415
    from lmrun.bench.engine_text import report_text  # noqa: PLC0415

    settings, against = _settings(given), _against(given)
    ours = _ours(given, settings)
    settings = settings.within(min(one.plan.engine.context_length for one in ours))
    with timed("lmrun bench engine"):
        results = engine.run(settings, [*_entries(ours), *_peers(against, settings, ours)])
    works = {
        one.name: engine_report.Work.of(
            Path(one.plan.engine.workspace),
            one.plan.budget.block_bytes / one.plan.engine.block_size,
        )
        for one in ours
    }
    found = engine_report.report(results, works)
    if "--json" not in given:
        sys.stdout.write(report_text(found) + "\n\n")
    sys.stdout.write(json.dumps(found) + "\n")
    return ExitStatus.STAGE_FAILED if results.failed else ExitStatus.OK


def _install(given: Mapping[str, str]) -> ExitStatus:
    from lmrun.bench import peers_folder  # noqa: PLC0415

    for name in given:
        if name != "--install-peers":
            raise UsageError(f"{name}: cannot stand beside --install-peers.")
    found = peers_folder.install(Path(given["--install-peers"]))
    sys.stdout.write(f"lmrun bench engine --against llama.cpp,openvino --peers {found.path}\n")
    return ExitStatus.OK


def _settings(given: Mapping[str, str]) -> "Settings":
    from lmrun.bench.engine_cases import QUICK, SHAPES, Settings  # noqa: PLC0415
    from lmrun.plan.machine import this_machine  # noqa: PLC0415

    if "--quick" in given and "--full" in given:
        raise UsageError("--quick: cannot stand beside --full.")
    plain = QUICK if "--quick" in given else Settings()
    shape = given.get("--shape", plain.shape)
    if shape not in SHAPES:
        raise UsageError(f"--shape: {shape}: expected one of {', '.join(SHAPES)}.")
    return Settings(
        shape=shape,
        threads=_number(given, "--threads", this_machine().cores),
        batches=_numbers(given, "--batches", plain.batches, least=1),
        contexts=_numbers(given, "--contexts", plain.contexts),
        lengths=_numbers(given, "--prefill", plain.lengths, least=1),
        new_tokens=plain.new_tokens,
        rounds=_number(given, "--rounds", plain.rounds),
        is_full="--full" in given,
        trace=_trace(given),
    )


def _trace(given: Mapping[str, str]) -> "Trace | None":
    from lmrun.bench.trace import read_trace  # noqa: PLC0415

    if "--trace" not in given:
        for name in ("--requests", "--trace-speedup"):
            if name in given:
                raise UsageError(f"{name}: only --trace has a use for it.")
        return None
    trace = read_trace(given["--trace"], _number(given, "--requests", _REQUESTS))
    return trace.faster(_number(given, "--trace-speedup", 1))


def _against(given: Mapping[str, str]) -> "Against":
    from lmrun.bench.engine_entries import LLAMA_BENCH, LLAMA_CPP, OPENVINO, Against  # noqa: PLC0415
    from lmrun.bench.peers_folder import PeersFolder  # noqa: PLC0415

    names = tuple(word for word in given.get("--against", "").split(",") if word)
    for name in names:
        path = Path(name.removeprefix(LLAMA_BENCH)).expanduser()
        if name.startswith(LLAMA_BENCH) and not path.is_file():
            raise UsageError(f"--against: {name}: expected a program, got no file.")
        if name not in (LLAMA_CPP, OPENVINO) and not name.startswith(LLAMA_BENCH):
            raise UsageError(
                f"--against: {name}: expected {LLAMA_CPP}, {OPENVINO} or {LLAMA_BENCH}PATH."
            )
    for flag in ("--peers", "--gguf"):
        if flag in given and not names:
            raise UsageError(f"{flag}: only --against has a use for it.")
    files = tuple(Path(one).expanduser().absolute() for one in _split(given.get("--gguf", "")))
    for file in files:
        if not file.is_file():
            raise UsageError(f"--gguf: {file}: expected a GGUF file, got no file.")
    folder = PeersFolder.at(Path(given["--peers"])) if "--peers" in given else None
    against = Against(tuple(dict.fromkeys(names)), folder, files, "--quick" in given)
    against.check()
    return against


def _ours(given: Mapping[str, str], settings: "Settings") -> list[_Ours]:
    """Our settings, their workspaces built."""
    from lmrun.config.located import located  # noqa: PLC0415
    from lmrun.deploy.building import build  # noqa: PLC0415

    found = []
    for name, overrides in _overrides(given, settings):
        composed = compose(overrides)
        with located(composed):
            found.append(_Ours(name, composed, build(composed, Store(env.home()))))
    return found


def _overrides(
    given: Mapping[str, str], settings: "Settings"
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and overrides of each of our settings."""
    from lmrun.bench.engine_cases import SHAPES  # noqa: PLC0415

    kv_bits = _split(given.get("--kv-bits", "16,4"))
    activations = _split(given["--activation-bits"]) if "--activation-bits" in given else ("",)
    isas = _split(given["--isa"]) if "--isa" in given else ("",)
    for isa, bits, kv in itertools.product(isas, activations, kv_bits):
        words = [f"model.path={SHAPES[settings.shape]}", "quant=rtn"]
        words += [f"kv.bits={kv}", f"backend.threads={settings.threads}"]
        words += ["backend.max_num_seqs=1"]
        words += [f"backend.activation_bits={bits}"] if bits else []
        words += [f"backend.isa={isa}"] if isa else []
        name = f"lmrun kv{kv}" + (f" a{bits}" if bits else "") + (f" {isa}" if isa else "")
        yield name, tuple(words)


def _entries(ours: Sequence[_Ours]) -> "Iterator[Entry]":
    from lmrun.bench.engine import Entry  # noqa: PLC0415
    from lmrun.bench.engine_native import Native  # noqa: PLC0415

    for one in ours:
        bits = one.plan.engine.kv_bits
        yield Entry(
            engine=Native(one.name, one.plan),
            is_ours=True,
            weights="u4, groups of 128, with zero points; head as stored",
            kv_bits=bits if isinstance(bits, int) else max(bits),
            activations=f"{one.composed.run.backend.activation_bits} bits",
        )


def _peers(against: "Against", settings: "Settings", ours: Sequence[_Ours]) -> "list[Entry]":
    plan = ours[0].plan
    if not against.names or plan.checkpoint is None:
        return []
    bits = [one.composed.run.kv.bits for one in ours]
    return against.entries(settings.shape, plan.checkpoint, settings.threads, bits)


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in text.split(",") if word))


def _numbers(
    given: Mapping[str, str], flag: str, plain: tuple[int, ...], least: int = 0
) -> tuple[int, ...]:
    """Numbers with commas between them, each once, in their order; none of an empty text."""
    if flag not in given:
        return plain
    words = _split(given[flag])
    for word in words:
        if not word.isdecimal() or not least <= int(word) <= _MOST:
            raise UsageError(f"{flag}: expected numbers from {least} to {_MOST}, got {word!r}.")
    return tuple(sorted({int(word) for word in words}))


def _number(given: Mapping[str, str], flag: str, plain: int) -> int:
    text = given.get(flag, str(plain))
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise UsageError(f"{flag}: expected a number from 1 to {_MOST}, got {text!r}.")
    return int(text)
