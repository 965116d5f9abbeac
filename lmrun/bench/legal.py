"""Whether there is such a load, and whether it fits a deployment: told before anything is built."""

from lmrun.bench.trace import Trace, read_trace
from lmrun.config.schema import BenchConfig
from lmrun.errors import ConfigError, PlanError


def check(bench: BenchConfig, context_length: int | None = None) -> Trace | None:
    """The trace, where one is named, cut to the context where its length is known.

    Raises `ConfigError` for a load that there is none of, and `PlanError` where requests are longer
    than the context.
    """
    if bench.trace is not None:
        return read_trace(bench.trace, bench.requests).within(context_length)
    if not bench.concurrency:
        raise ConfigError("bench.concurrency=[]: expected a level, got none. Such as [1,4].")
    needed = bench.prompt_tokens + bench.output_tokens
    if context_length is not None and needed > context_length:
        raise PlanError(
            f"bench.prompt_tokens={bench.prompt_tokens}: with bench.output_tokens="
            f"{bench.output_tokens} a request has {needed} tokens, the context {context_length}."
            " Lower one of them."
        )
    return None
