"""lmrun from Python; every name here is reached as ``lmrun.NAME``.

Overrides are those of the command line, one string each. What is wrong is raised as the error the
command line would print (`lmrun.errors`): `ConfigError`, `PlanError`, `StageError`.

>>> import lmrun
>>> tiny = ("model=random_llama", "quant=none")

`compose` gives the run config and where each value was set:

>>> composed = lmrun.compose(*tiny, "kv.bits=8")
>>> composed.run.kv.bits
8
>>> str(composed.origins["kv.bits"])
'command line'

`plan` says what would run and what it costs, and writes nothing:

>>> plan = lmrun.plan(*tiny)
>>> [stage.name for stage in plan.stages]
['resolve', 'convert']
>>> plan.model_kind.value
'builtin'

`LLM` builds what is missing and runs the engine in this process:

>>> llm = lmrun.LLM(*tiny, "backend.threads=1")
>>> greedy = lmrun.SamplingParams(temperature=0.0, max_tokens=4)
>>> [output] = llm.generate(["Once upon a time"], greedy)
>>> len(output.token_ids), output.finish_reason
(4, 'length')
>>> "".join(llm.stream("Once upon a time", greedy)) == output.text
True
>>> answer = llm.chat([{"role": "user", "content": "Hello"}], greedy)
>>> len(answer.token_ids)
4

`up` serves, in child processes, until the block is left:

>>> import httpx
>>> with lmrun.up(*tiny, "backend.threads=1", f"frontend.port={free_port}") as deployment:
...     httpx.get(f"{deployment.base_url}/v1/models").json()["data"][0]["id"]
'random-llama'
>>> deployment.is_running
False

A wrong override is an exception with the text of the command line:

>>> lmrun.plan(*tiny, "kv.bits=5")
Traceback (most recent call last):
...
lmrun.errors.ConfigError: kv.bits=5 (command line): expected one of 4, 8, 16 or 32.
"""

from lmrun import config, env
from lmrun.artifacts.store import Store
from lmrun.config import Composed
from lmrun.deploy import session
from lmrun.deploy.session import Deployment
from lmrun.engine import llm
from lmrun.engine.messages import SamplingParams
from lmrun.errors import UsageError
from lmrun.plan.plan import Plan, check_runnable
from lmrun.plan.planner import make_plan

__all__ = ["LLM", "Deployment", "Plan", "SamplingParams", "compose", "plan", "up"]


def compose(*overrides: str) -> Composed:
    """The validated run config of the overrides, with the origin of every value."""
    return config.compose(_texts(overrides))


def plan(*overrides: str) -> Plan:
    """What the overrides would run on this machine, what it costs, whether it fits."""
    return make_plan(compose(*overrides), Store(env.home()))


def up(*overrides: str) -> Deployment:
    """Build what is missing, launch, serve; returns when the API answers.

    A context manager: leaving the block drains and stops. It runs in processes of its own, so it
    works in a notebook and in a thread; none of them outlives this one.
    """
    return session.up(_texts(overrides))


class LLM(llm.LLM):
    """One engine in this process: `generate`, `chat`, `stream`. Not thread-safe.

    Made from overrides, after what was missing was built. Its ``plan`` says what it runs.
    """

    def __init__(self, *overrides: str) -> None:
        made = plan(*overrides)
        check_runnable(made)
        if made.missing:
            session.build(overrides)
            made = plan(*overrides)
        self.plan = made
        super().__init__(made.engine, template=made.chat_template)


def _texts(overrides: tuple[object, ...]) -> list[str]:
    for word in overrides:
        if not isinstance(word, str):
            raise UsageError(
                f"overrides: expected texts such as '+recipe=mine', got {type(word).__name__}."
                " Write each as an argument of its own."
            )
    return [str(word) for word in overrides]
