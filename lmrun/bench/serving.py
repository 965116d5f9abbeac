"""`lmrun bench`: the speed of a deployment as its clients see it."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import lmrun
from lmrun import events, log
from lmrun.artifacts.measurements import now
from lmrun.bench import asking
from lmrun.bench.asking import Asker, Model
from lmrun.bench.bounds import Limits, limits_of
from lmrun.bench.client import Address
from lmrun.bench.deployment import Deployment, deployed
from lmrun.bench.load import Round, Server
from lmrun.bench.prompts import Prompts, ordinary_ids
from lmrun.bench.report import (
    SCHEMA_VERSION,
    Asked,
    BenchReport,
    Figures,
    Load,
    Memory,
    Target,
    TraceReplay,
    schema,
)
from lmrun.bench.statistics import figures_of, is_good, load_of
from lmrun.bench.trace import Trace, read_trace
from lmrun.config.schema import BenchConfig
from lmrun.errors import ConfigError, EngineError, PlanError, StageError
from lmrun.plan.machine import this_machine
from lmrun.plan.plan import Plan

__all__ = ["BenchReport", "Figures", "Load", "check", "measure", "schema"]

WARM_UP_ARRIVALS = 4

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
    trace = check(bench)
    with ExitStack() as stack:
        if url is not None:
            subject = _served(url, api_key, bench.seed)
        elif plan is not None:
            _check_length(bench, trace, plan.engine.context_length)
            limits = limits_of(plan, lambda what: _log.info("%s", what))
            subject = _own(stack.enter_context(deployed(plan)), limits, bench.seed)
        else:
            raise AssertionError("neither a plan nor a URL")
        _check_length(bench, trace, subject.context_length)
        run = _Run(subject, bench)
        run.go(trace)
        memory, ready_s = _memory(subject)
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
        loads=run.loads(),
        trace=run.replay(),
        memory=memory,
        rates=None if subject.limits is None else subject.limits.rates,
        figures=None,
    )
    measured = report.loads if report.trace is None else [report.trace.load]
    if not any(load.requests for load in measured):
        raise StageError(f"bench: nothing was measured: {run.problem}")
    return replace(report, figures=figures_of(measured))


def check(bench: BenchConfig) -> Trace | None:
    """The trace, where one is named. Raises `ConfigError` for a load that there is none of."""
    if bench.trace is not None:
        return read_trace(bench.trace, bench.requests)
    if not bench.concurrency:
        raise ConfigError("bench.concurrency=[]: expected a level, got none. Such as [1,4].")
    return None


@dataclass(frozen=True)
class _Subject:
    """What is measured."""

    asker: Asker
    context_length: int | None
    deployment: Deployment | None = None
    limits: Limits | None = None

    def check_alive(self) -> None:
        """Raise `StageError` where it answers no more."""
        if self.deployment is not None:
            self.deployment.check_alive()
        else:
            asking.model_of(self.asker.address)


def _served(url: str, api_key: str | None, seed: int) -> _Subject:
    try:
        address = Address.of(url, api_key)
    except ValueError:
        raise ConfigError(f"{url}: expected http://HOST:PORT of a server, got another.") from None
    model: Model = asking.model_of(address)
    salt = time.time_ns()  # the server may remember the prompts of an earlier bench
    return _Subject(asking.ask_how(address, model.name, seed, salt), model.context_length)


def _own(deployment: Deployment, limits: Limits, seed: int) -> _Subject:
    plan = deployment.plan
    vocabulary = ordinary_ids(Path(plan.engine.workspace), deployment.ready.vocab_size)
    asker = Asker(
        Address.of(deployment.url), plan.served_name, asking.BEST, Prompts(vocabulary, seed)
    )
    return _Subject(asker, plan.engine.context_length, deployment, limits)


def _check_length(bench: BenchConfig, trace: Trace | None, context_length: int | None) -> None:
    needed = bench.prompt_tokens + bench.output_tokens
    if trace is None and context_length is not None and needed > context_length:
        raise PlanError(
            f"bench.prompt_tokens={bench.prompt_tokens}: with bench.output_tokens="
            f"{bench.output_tokens} a request has {needed} tokens, the context {context_length}."
            " Lower one of them."
        )


class _Run:
    """The rounds of a bench, as far as they come."""

    def __init__(self, subject: _Subject, bench: BenchConfig) -> None:
        self._subject = subject
        self._bench = bench
        self._server = Server(subject.asker.address)
        self._rounds: dict[int, list[Round]] = {}
        self._replays: list[Round] = []
        self._trace: Trace | None = None
        self.problem: str | None = None
        """Why it ended early."""
        self.ignores_eos = True
        """Every completion had the tokens that were asked for."""

    def go(self, trace: Trace | None) -> None:
        """Measure all of it, or until the server is gone."""
        try:
            if trace is None:
                self._levels()
            else:
                fitted = trace.within(self._subject.context_length)
                self._trace = fitted.faster(self._bench.trace_speedup)
                self._replay(self._trace)
        except (StageError, EngineError) as error:
            self.problem = str(error)

    def loads(self) -> list[Load]:
        """The levels that were measured."""
        found = []
        for concurrency, rounds in self._rounds.items():
            load = load_of(rounds, concurrency)
            limits = self._subject.limits
            if limits is not None and load.requests:
                sizes = self._bench.prompt_tokens, self._bench.output_tokens
                load = replace(load, bounds=limits.of(load, *sizes))
            found.append(load)
        return found

    def replay(self) -> TraceReplay | None:
        """The trace, as far as it was replayed."""
        trace, bench = self._trace, self._bench
        if trace is None:
            return None
        load = load_of(self._replays, None)
        answers = [answer for one in self._replays for answer in one.answers]
        good = sum(is_good(one, bench.max_ttft_ms, bench.max_itl_ms) for one in answers)
        return TraceReplay(
            file=trace.file,
            sha256=trace.sha256,
            requests=len(trace.arrivals),
            clipped=trace.clipped,
            speedup=bench.trace_speedup,
            offered_requests_per_s=trace.offered_per_s,
            max_ttft_ms=bench.max_ttft_ms,
            max_itl_ms=bench.max_itl_ms,
            good_requests=good,
            goodput_requests_per_s=good / load.seconds if load.seconds else 0.0,
            load=load,
        )

    def _levels(self) -> None:
        """Each level in each round, so that a slow minute of the machine hits all alike."""
        bench = self._bench
        levels = list(dict.fromkeys(bench.concurrency))
        sizes = bench.prompt_tokens, bench.output_tokens
        counts = {level: max(bench.requests, level) for level in levels}
        said = _Progress(sum(counts.values()) * bench.rounds)
        said.next("warming up")
        self._warm_up([sizes] * max(levels), max(levels))
        for number in range(bench.rounds):
            for level, count in counts.items():
                said.next(f"round {number + 1} of {bench.rounds}, {level} open")
                requests = [self._subject.asker.request(*sizes) for _ in range(count)]
                one = self._told(self._server.closed(requests, level), sizes[0])
                self._rounds.setdefault(level, []).append(one)
                self._check(one, [sizes[1]] * count)
                said.done(count)

    def _replay(self, trace: Trace) -> None:
        arrivals = trace.arrivals
        asker = self._subject.asker
        rounds = self._bench.rounds
        said = _Progress(len(arrivals) * rounds)
        said.next("warming up")
        first = [(one.prompt_tokens, one.output_tokens) for one in arrivals[:WARM_UP_ARRIVALS]]
        self._warm_up(first, len(first))
        for number in range(rounds):
            said.next(f"round {number + 1} of {rounds}, arrivals over {arrivals[-1].at:.0f} s")
            requests = [
                (one.at, asker.request(one.prompt_tokens, one.output_tokens)) for one in arrivals
            ]
            one = self._told(self._server.open(requests), None)
            self._replays.append(one)
            self._check(one, [arrival.output_tokens for arrival in arrivals])
            said.done(len(requests))

    def _warm_up(self, sizes: Sequence[tuple[int, int]], concurrency: int) -> None:
        """The first requests touch memory that no later one finds untouched."""
        requests = [self._subject.asker.request(*size) for size in sizes]
        self._check(self._server.closed(requests, concurrency), [size[1] for size in sizes])

    def _told(self, one: Round, prompt_tokens: int | None) -> Round:
        """With the length of prompts that a server does not count, where it is known."""
        if self._subject.asker.dialect.prompt == "text" or prompt_tokens is None:
            return one
        answers = (
            replace(answer, prompt_tokens=prompt_tokens) if answer.prompt_tokens is None else answer
            for answer in one.answers
        )
        return replace(one, answers=tuple(answers))

    def _check(self, one: Round, asked: Sequence[int]) -> None:
        """Raise where it makes no sense to go on."""
        for answer, tokens in zip(one.answers, asked, strict=True):
            if answer.error is None and answer.tokens != tokens:
                self.ignores_eos = False
        wrong = next((answer.error for answer in one.answers if answer.error is not None), None)
        if wrong is None:
            return
        self._subject.check_alive()
        if not one.good:
            raise StageError(f"bench: no request ended well; the first: {wrong}")


class _Progress:
    """Lines of the log, and events, between what is timed: a moving bar would be timed too."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def next(self, what: str) -> None:
        """What comes now."""
        _log.info("bench: %s", what)

    def done(self, requests: int) -> None:
        """So many more requests are over."""
        self._done += requests
        events.emit(events.Progress("bench", self._done, self._total, "requests"))


def _memory(subject: _Subject) -> tuple[Memory | None, float | None]:
    if subject.deployment is None:
        return None, None
    try:
        return subject.deployment.memory()
    except EngineError as error:
        _log.warning("%s", error)
        return None, None


def _target(subject: _Subject, *, runs_past_end: bool, ready_s: float | None) -> Target:
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
