"""`lmrun doctor`: is all there that lmrun needs, and what can this machine do at most."""

import os
import sys
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import msgspec

from lmrun import env
from lmrun.artifacts.measurements import Ceilings, load_ceilings, save_ceilings
from lmrun.cli.doctor_checks import Check, Status, checks
from lmrun.cli.flags import split
from lmrun.cli.output import as_json
from lmrun.errors import ExitStatus, LmrunError, UsageError
from lmrun.json_schema import closed
from lmrun.plan.machine import this_machine

FLAGS = {"--measure": False, "--json": False}
SCHEMA_VERSION = 1
_NAME_WIDTH = 17
ORDER = ("u4", "u4a16", "u4a8", "u8", "u8a16", "u8a8", "i8", "F16", "BF16", "F32")
"""Weight schemes as they are shown."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `lmrun doctor --json` prints."""

    schema_version: int
    status: Status
    """The worst of the checks."""
    checks: list[Check]
    ceilings: Ceilings | None
    """Measured now or before; None while they are not."""


@cache
def schema() -> dict[str, Any]:
    """JSON Schema of the report."""
    document = closed(msgspec.json.schema(Report))
    document["$defs"]["Report"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return document


def run(argv: list[str]) -> ExitStatus:
    """Check, measure if asked, print; status 5 where something needed is missing."""
    flags, rest = split(argv, FLAGS)
    if rest:
        raise UsageError(f"doctor: expected flags alone, got {rest[0]}. It looks at the machine.")
    measured = _measure() if "--measure" in flags else None
    found = list(checks())
    report = Report(
        schema_version=SCHEMA_VERSION,
        status=_worst(found),
        checks=found,
        ceilings=load_ceilings(env.home(), this_machine().identity) or measured,
    )
    if "--json" in flags:
        sys.stdout.write(as_json(asdict(report)))
    else:
        sys.stdout.write(report_text(report))
    return ExitStatus.STAGE_FAILED if report.status is Status.fail else ExitStatus.OK


def _measure() -> Ceilings:
    """Measure and keep; where the store takes nothing, the figures are shown all the same."""
    # loads the engine, NumPy and sockets, which the checks alone do not need
    from lmrun.bench.alone import timed  # noqa: PLC0415
    from lmrun.bench.ceilings import measure  # noqa: PLC0415
    from lmrun.deploy import serving_cost  # noqa: PLC0415

    def say(what: str) -> None:
        sys.stderr.write(f"measuring: {what}\n")
        sys.stderr.flush()

    machine = this_machine()
    with timed("lmrun doctor --measure"):
        load = os.getloadavg()[0]
        say("a server")
        serving_token_s = serving_cost.seconds_a_token(machine.cores)
        measured = measure(machine.identity, say, serving_token_s)
    try:
        save_ceilings(env.home(), measured)
    except (LmrunError, OSError) as error:
        say(f"not kept, so plans do not know: {error}")
    if load > machine.cores / 2:
        say(
            f"the machine was busy (load {load:.1f}, {machine.cores} cores), figures may be too"
            " low. Measure again when it is not: the better ones stay."
        )
    return measured


def _worst(found: list[Check]) -> Status:
    order = list(Status)
    return max((check.status for check in found), key=order.index)


def report_text(report: Report) -> str:
    """The report for people; what can be done stands under what is wrong."""
    lines = []
    for check in report.checks:
        lines.append(f"{check.status:<5} {check.name:<{_NAME_WIDTH}} {check.found}")
        if check.advice is not None:
            lines.append(f"{'':<5} {'':<{_NAME_WIDTH}} {check.advice}")
    if report.ceilings is not None:
        lines += ["", *ceilings_text(report.ceilings)]
    return "\n".join(lines) + "\n"


def ceilings_text(ceilings: Ceilings) -> list[str]:
    """The ceilings with their units, a line each."""
    rows = [
        ("memory read", _giga(ceilings.read_bytes_per_s, "GB/s")),
        ("fp32 multiply-add", _giga(ceilings.flops_per_s, "GFLOP/s")),
    ]
    for scheme, rates in sorted(ceilings.schemes.items(), key=lambda item: ORDER.index(item[0])):
        rows += [
            (f"{scheme} decode", _giga(rates.decode_bytes_per_s, "GB/s of weights")),
            ("", _giga(rates.cached_decode_bytes_per_s, "GB/s while they fit the cache")),
            (
                f"{scheme} prefill",
                _giga(rates.prefill_flops_per_s, f"GFLOP/s, {ceilings.prefill_rows} tokens a step"),
            ),
        ]
    for bits, rate in sorted(ceilings.attention_bytes_per_s.items(), key=lambda item: int(item[0])):
        rows.append((f"KV {bits} bits decode", _giga(rate, "GB/s of K and V")))
    rows += [
        ("attention prefill", _giga(ceilings.attention_flops_per_s, "GFLOP/s, KV 16 bits")),
        ("a decode step", f"{ceilings.step_overhead_s * 1e6:8.1f} µs beside its layers"),
        ("a layer of it", f"{ceilings.layer_overhead_s * 1e6:8.1f} µs beside what it reads"),
        ("a streamed token", f"{ceilings.serving_token_s * 1e6:8.1f} µs of the server"),
        ("engine process", f"{ceilings.process_bytes / 2**20:8.1f} MiB beside model and KV"),
        ("last-level cache", f"{ceilings.cache_bytes / 2**20:8.1f} MiB"),
    ]
    head = f"ceilings, {ceilings.threads} threads, isa {ceilings.isa}, {ceilings.measured_at}"
    return [head, *(f"  {name:<20} {value}" for name, value in rows)]


def _giga(rate: float, unit: str) -> str:
    return f"{rate / 1e9:8.1f} {unit}"
