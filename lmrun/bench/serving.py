"""`lmrun bench`: the speed of a deployment as its clients see it."""

from lmrun.bench.report import BenchReport, Figures, Load, schema
from lmrun.config.schema import BenchConfig
from lmrun.errors import PlanError
from lmrun.plan.plan import Plan

__all__ = ["BenchReport", "Figures", "Load", "measure", "schema"]


def measure(plan: Plan | None, bench: BenchConfig, *, url: str | None = None) -> BenchReport:
    """Start what a built plan deploys, engine and server, and measure it over HTTP; or the server
    at ``url``, and then the plan may be None.

    Does not wait for other timed runs: the caller holds `lmrun.bench.alone.timed`. A run that ends
    early is a report too (``complete`` False, ``problem`` says why) as long as something was
    measured. Raises `StageError` or `EngineError` where the deployment does not come up or nothing
    was measured, `ConfigError` for a trace file that is none.
    """
    raise PlanError("bench: not built yet.")
