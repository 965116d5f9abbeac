"""Each figure beside the most that this machine could do for this model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from lmrun import _engine, env, log
from lmrun.artifacts.measurements import Ceilings, best_of, load_ceilings
from lmrun.bench import ceilings as measuring
from lmrun.bench.report import Bound, Load, Rates
from lmrun.engine.observing import build_name
from lmrun.plan.machine import this_machine
from lmrun.plan.plan import Plan
from lmrun.plan.roofline import Measured, Workload, unusable
from lmrun.plan.sizes import show_count, show_seconds
from lmrun.plan.speed import SpeedEstimate, Term

QUICK = measuring.Effort(rounds=1, seconds=0.05, requests=8, caches=8)
"""Some 4 s, before and after the load, where `lmrun doctor --measure` has not looked longer."""
KEPT: Literal["lmrun doctor --measure"] = "lmrun doctor --measure"
HERE: Literal["measured in this run"] = "measured in this run"

_log = log.get("lmrun.bench.serving")


@dataclass(frozen=True)
class Limits:
    """What a machine can do for one plan."""

    plan: Plan
    ceilings: Ceilings
    is_kept: bool
    """Of an earlier `lmrun doctor --measure`."""

    @property
    def rates(self) -> Rates:
        """For the report."""
        found = self.ceilings
        return Rates(
            source=KEPT if self.is_kept else HERE,
            measured_at=found.measured_at,
            threads=found.threads,
            read_bytes_per_s=found.read_bytes_per_s,
            flops_per_s=found.flops_per_s,
        )

    def again(self) -> "Limits":
        """Better ones from another quick look, some time after the first; kept ones stay."""
        if self.is_kept:
            return self
        return replace(self, ceilings=best_of([self.ceilings, _quick_look()]))

    def of(self, load: Load, prompt_tokens: int, output_tokens: int) -> list[Bound]:
        """The bounds of a level; none where these ceilings say nothing about the plan.

        TTFT: computing the prompt, with nobody else there. ITL: a step that reads the weights once
        and the KV of every open request, halfway through its completion. Tokens a second: prompts
        one after another, then steps of that kind.
        """
        plan = self.plan
        work = Workload(plan.spec, plan.budget, plan.engine)
        if unusable(work, self.ceilings) is not None or load.concurrency is None:
            return []
        measured = Measured(work, self.ceilings)
        together = min(load.concurrency, load.requests // load.rounds, plan.engine.max_num_seqs)
        step = measured.decode(max(1, together), prompt_tokens + output_tokens / 2)
        prompt = measured.prefill(prompt_tokens)
        return list(_bounds(load, step, prompt, max(1, together), output_tokens))


def _bounds(
    load: Load, step: SpeedEstimate, prompt: SpeedEstimate, together: int, output_tokens: int
) -> Iterator[Bound]:
    if load.ttft_ms is not None:
        value, least = load.ttft_ms.p50, 1e3 * _floor(prompt)
        expected = 1e3 * prompt.seconds
        yield Bound(
            figure="ttft_ms",
            value=value,
            ceiling=least,
            share=least / value,
            expected=expected,
            why=_why(prompt),
        )
    if load.itl_ms is not None and load.itl_ms.mean > 0:  # 0: every answer came in one piece
        value, least = load.itl_ms.mean, 1e3 * _floor(step)
        yield Bound(
            figure="itl_ms",
            value=value,
            ceiling=least,
            share=least / value,
            expected=1e3 * step.seconds,
            why=_why(step),
        )
    if load.output_tokens_per_s is not None:

        def rate(seconds: Callable[[SpeedEstimate], float]) -> float:
            """The first token comes with the prompt."""
            spent = seconds(prompt) + (output_tokens - 1) * seconds(step) / together
            return output_tokens / spent

        value, most = load.output_tokens_per_s.median, rate(_floor)
        yield Bound(
            figure="output_tokens_per_s",
            value=value,
            ceiling=most,
            share=value / most,
            expected=rate(lambda estimate: estimate.seconds),
            why=f"{output_tokens} / ({show_seconds(_floor(prompt))} of a prompt"
            f" + {output_tokens - 1} x {show_seconds(_floor(step))} of a step / {together})",
        )


def _floor(estimate: SpeedEstimate) -> float:
    """Seconds for bytes and operations alone."""
    return sum(term.seconds for term in _physical(estimate))


def _physical(estimate: SpeedEstimate) -> list[Term]:
    return [term for term in estimate.terms if term.unit in ("B", "FLOP")]


def _why(estimate: SpeedEstimate) -> str:
    return " + ".join(
        f"{term.what}: {show_count(term.amount, term.unit)}"
        f" / {show_count(term.rate, f'{term.unit}/s')}"
        for term in _physical(estimate)
    )


def limits_of(plan: Plan) -> Limits:
    """From the measurements of this machine and engine build, or a quick look now. Call it while
    nothing else is being timed. Raises `EngineError`."""
    kept = load_ceilings(env.home(), this_machine().identity, build_name(_engine.build_info()))
    if kept is not None:
        return Limits(plan, kept, is_kept=True)
    _log.info("a quick look at this machine's ceilings (lmrun doctor --measure takes a longer one)")
    return Limits(plan, _quick_look(), is_kept=False)


def _quick_look() -> Ceilings:
    return measuring.measure(this_machine().identity, _log.debug, 0.0, QUICK)
