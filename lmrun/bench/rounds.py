"""The rounds of a bench on one server, as far as they come."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmrun import events, log
from lmrun.bench import asking
from lmrun.bench.asking import Asker
from lmrun.bench.bounds import Limits
from lmrun.bench.deployment import Deployment
from lmrun.bench.load import Round, Server
from lmrun.bench.report import Load, TraceReplay
from lmrun.bench.statistics import is_good, load_of
from lmrun.bench.trace import Trace
from lmrun.config.schema import BenchConfig
from lmrun.errors import EngineError, StageError

WARM_UP_ARRIVALS = 4

_log = log.get("lmrun.bench.serving")


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    asker: Asker
    context_length: int | None
    deployment: Deployment | None = None

    def check_alive(self) -> None:
        """Raise `StageError` where it answers no more."""
        if self.deployment is not None:
            self.deployment.check_alive()
        else:
            asking.model_of(self.asker.address)


class Run:
    """The rounds of a bench, as far as they come."""

    def __init__(self, subject: Subject, bench: BenchConfig) -> None:
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
                self._trace = trace.faster(self._bench.trace_speedup)
                self._replay(self._trace)
        except (StageError, EngineError) as error:
            self.problem = str(error).removeprefix("bench: ")

    def loads(self, limits: Limits | None) -> list[Load]:
        """The levels that were measured, beside what the machine can do where that is known."""
        found = []
        for concurrency, rounds in self._rounds.items():
            load = load_of(rounds, concurrency)
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
