"""`lmrun bench`: the speed of a deployment as its clients see it."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import lmrun
from lmrun import log
from lmrun.artifacts.measurements import now
from lmrun.bench import asking
from lmrun.bench.asking import Asker
from lmrun.bench.bounds import Limits, limits_of
from lmrun.bench.client import Address
from lmrun.bench.deployment import Deployment, deployed
from lmrun.bench.legal import check
from lmrun.bench.prompts import Prompts, ordinary_ids
from lmrun.bench.report import (
    SCHEMA_VERSION,
    Asked,
    BenchReport,
    Figures,
    Load,
    Memory,
    Target,
    schema,
)
from lmrun.bench.rounds import Run, Subject
from lmrun.bench.statistics import figures_of
from lmrun.config.schema import BenchConfig
from lmrun.errors import ConfigError, EngineError, StageError
from lmrun.plan.machine import this_machine
from lmrun.plan.plan import Plan

__all__ = ["BenchReport", "Figures", "Load", "measure", "schema"]

_log = log.get(__name__)


def measure(
    plan: Plan | None, bench: BenchConfig, *, url: str | None = None, api_key: str | None = None
) -> BenchReport:
    """Start what a built plan deploys, engine and server, and measure it over HTTP; or the server
    at ``url``, and then the plan may be None.

    Does not wait for other timed runs: the caller holds `lmrun.bench.alone.timed`. A run that ends
    early is a report too (``complete`` False, ``problem`` says why) as long as something was
    measured. Raises `StageError` or `EngineError` where the deployment does not come up or nothing
    was measured, `PlanError` where the requests are longer than the context, `ConfigError` for a
    trace file that is none.
    """
    began, started = time.monotonic(), now()
    check(bench, None if plan is None or url is not None else plan.engine.context_length)
    limits: Limits | None = None
    with ExitStack() as stack:
        if url is not None:
            subject = _served(url, api_key, bench.seed)
        elif plan is not None:
            limits = limits_of(plan) if bench.trace is None else None
            subject = _own(stack.enter_context(deployed(plan)), bench.seed)
        else:
            raise AssertionError("neither a plan nor a URL")
        run = Run(subject, bench)
        run.go(check(bench, subject.context_length))
        memory, ready_s = _memory(subject)
    if limits is not None:
        limits = limits.again()
    report = BenchReport(
        schema_version=SCHEMA_VERSION,
        bench="serving",
        complete=run.problem is None,
        problem=run.problem,
        started=started,
        seconds=round(time.monotonic() - began, 3),
        lmrun=lmrun.__version__,
        machine=None if subject.deployment is None else this_machine().identity,
        target=_target(subject, runs_past_end=run.ignores_eos, ready_s=ready_s),
        asked=_asked(bench),
        loads=run.loads(limits),
        trace=run.replay(),
        memory=memory,
        rates=None if limits is None else limits.rates,
        figures=None,
    )
    measured = report.loads if report.trace is None else [report.trace.load]
    if not any(load.requests for load in measured):
        raise StageError(f"bench: nothing was measured: {run.problem}")
    return replace(report, figures=figures_of(measured))


def _served(url: str, api_key: str | None, seed: int) -> Subject:
    try:
        address = Address.of(url, api_key)
    except ValueError:
        raise ConfigError(f"{url}: expected http://HOST:PORT of a server, got another.") from None
    model = asking.model_of(address)
    salt = time.time_ns()  # the server may remember the prompts of an earlier bench
    return Subject(asking.ask_how(address, model.name, seed, salt), model.context_length)


def _own(deployment: Deployment, seed: int) -> Subject:
    plan = deployment.plan
    vocabulary = ordinary_ids(Path(plan.engine.workspace), deployment.ready.vocab_size)
    asker = Asker(
        Address.of(deployment.url), plan.served_name, asking.BEST, Prompts(vocabulary, seed)
    )
    return Subject(asker, plan.engine.context_length, deployment)


def _memory(subject: Subject) -> tuple[Memory | None, float | None]:
    if subject.deployment is None:
        return None, None
    try:
        return subject.deployment.memory()
    except EngineError as error:
        _log.warning("%s", error)
        return None, None


def _target(subject: Subject, *, runs_past_end: bool, ready_s: float | None) -> Target:
    asker, own = subject.asker, subject.deployment
    return Target(
        kind="url" if own is None else "deployment",
        url=asker.address.base_url if own is None else None,
        model=asker.model,
        endpoint=asker.dialect.path,
        prompts=asker.dialect.prompt,
        ignores_eos=runs_past_end,
        recipe=None if own is None else own.plan.recipe,
        engine=None if own is None else dict(own.in_force.settings),
        engine_build=None if own is None else own.in_force.engine_build,
        seconds_to_ready=ready_s,
    )


def _asked(bench: BenchConfig) -> Asked:
    return Asked(
        prompt_tokens=bench.prompt_tokens,
        output_tokens=bench.output_tokens,
        concurrency=list(bench.concurrency),
        requests=bench.requests,
        rounds=bench.rounds,
        seed=bench.seed,
        trace=bench.trace,
    )
