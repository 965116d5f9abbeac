"""What `baseline` and `evaluate` share: what is asked of `lmrun.evals`, as a plan says it, and
whether it can be done, which is known before anything is built."""

from dataclasses import replace
from pathlib import Path

from lmrun.errors import PlanError
from lmrun.evals import texts
from lmrun.evals.run import Evaluation
from lmrun.evals.task_files import read_task
from lmrun.evals.tool_files import read_tools
from lmrun.evals.tool_scores import check_tools
from lmrun.models import builtin_data, chat_template
from lmrun.models.chat_template import ChatTemplate
from lmrun.models.tokenizer import Tokenizer
from lmrun.plan.plan import Plan

_SURELY_A_WINDOW = 64
"""Characters a token, of which a longer text has a full window without being tokenized."""
NO_TOOLS = (
    "tools: {tools} is left out, because the model's chat template has no tools or writes calls in"
    " no format that is built yet"
)


def asked(plan: Plan) -> Evaluation:
    """Everything that a plan evaluates."""
    assert plan.evaluated is not None  # one of the stages that evaluate is in the plan
    keys = plan.config["evaluate"]
    return Evaluation(
        data=plan.evaluated.data,
        window=keys["window"],
        max_tokens=keys["max_tokens"],
        kl_tokens=keys["kl_tokens"],
        tasks=plan.evaluated.tasks,
        task_limit=keys["task_limit"],
        tools=plan.evaluated.tools,
    )


def workspace_fingerprint(plan: Plan) -> str | None:
    """Of the workspace that a plan launches; None for one that is no artifact."""
    convert = plan.stage("convert")
    return convert.fingerprint if convert is not None else None


def check_files(plan: Plan, model: Path) -> None:
    """Raise for a file that cannot be read, a text that is too short, and tools for a model that
    cannot be offered any: all that would otherwise end the evaluation, after the build.

    ``model`` is the folder of the tokenizer. The errors are those of `lmrun.evals`.
    """
    found = asked(plan)
    for path in found.tasks.values():
        read_task(path, found.task_limit)
    if found.tools is not None:
        read_tools(found.tools, found.task_limit)
        template = chat_template.load(plan.chat_template, model)
        if not _may_lack_tools(plan, found):
            check_tools(template, model.name)
    if found.data is not None:
        text, _ = texts.read(found.data)
        if len(text) < _SURELY_A_WINDOW * found.window or found.max_tokens < found.window:
            texts.cut(found.data, Tokenizer.from_folder(model), found.window, found.max_tokens)


def offered(
    plan: Plan, found: Evaluation, template: ChatTemplate | None
) -> tuple[Evaluation, tuple[str, ...]]:
    """What is evaluated of ``found``, and remarks: the tools that come with lmrun are left out of
    a model that cannot be offered any, as are figures without a baseline."""
    if found.tools is None or not _may_lack_tools(plan, found):
        return found, ()
    try:
        check_tools(template, plan.served_name)
    except PlanError:
        note = NO_TOOLS.format(tools=builtin_data.shown(found.tools))
        return replace(found, tools=None), (note,)
    return found, ()


def _may_lack_tools(plan: Plan, found: Evaluation) -> bool:
    """Of `evaluate=quick` and `full`, which serve any model: where something else is evaluated,
    and no bound asks for the calls."""
    is_ours = found.tools in builtin_data.TOOLS.values()
    is_gated = plan.config["evaluate"]["min_tool_accuracy"] is not None
    return is_ours and not is_gated and (found.data is not None or bool(found.tasks))
