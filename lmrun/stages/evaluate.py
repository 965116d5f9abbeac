"""evaluate: the quality of a deployment, through the engine that will serve it.

Text, every task and the tools file are parts: each is kept when it is done, so that a killed run
goes on with the next one. The report is that of `lmrun.evals.report`, without times: equal engines
write equal bytes. Times stand in the manifest.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lmrun import log
from lmrun.config.schema import KvConfig
from lmrun.engine.llm import LLM
from lmrun.errors import ArtifactError
from lmrun.evals import report
from lmrun.evals import run as evals
from lmrun.evals.report import Quality
from lmrun.evals.run import Evaluation
from lmrun.plan import kv_layers
from lmrun.plan import quality as qualities
from lmrun.stages import evaluating
from lmrun.stages.context import StageContext, StageResult

_log = log.get(__name__)

_PART = "quality.json"


@dataclass(frozen=True)
class _Part:
    """One of the things that are evaluated, kept when it is done."""

    name: str
    asked: Evaluation


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with the report, and the answers to every item."""
    plan = context.plan
    workspace = context.inputs.get("convert") or plan.workspace
    assert workspace is not None
    # the plan was made before calibrate ran, perhaps, by which `kv.keep` chooses layers
    kv = msgspec.convert(plan.config["kv"], KvConfig)
    kept = kv_layers.kept_layers(kv, context.inputs.get("calibrate"))
    assert kept is not None
    kv_bits = kv_layers.layer_bits(kv, kept, plan.spec.num_layers)
    settings = replace(plan.engine, workspace=str(workspace), kv_bits=kv_bits)
    llm = LLM(settings, template=plan.chat_template)
    everything, remarks = evaluating.offered(plan, evaluating.asked(plan), llm.template)
    found = [_evaluated(part, llm, context) for part in _parts(everything)]
    quality = _joined(found)
    quality = replace(quality, notes=(*quality.notes, *remarks))
    document = report.to_document(replace(quality, seconds={}))
    text = json.dumps(document, indent=1) + "\n"
    (context.partial / qualities.REPORT).write_text(text, encoding="utf-8")
    return StageResult(
        metrics={
            qualities.SETTINGS: qualities.settings(plan.config),
            qualities.MODEL: qualities.model_of(plan),
            "seconds": quality.seconds,
        }
    )


def _parts(asked: Evaluation) -> Iterator[_Part]:
    nothing = replace(asked, data=None, tasks={}, tools=None)
    if asked.data is not None:
        yield _Part("text", replace(nothing, data=asked.data))
    for name, path in asked.tasks.items():
        yield _Part(f"tasks.{name}", replace(nothing, tasks={name: path}))
    if asked.tools is not None:
        yield _Part("tools", replace(nothing, tools=asked.tools))


def _evaluated(part: _Part, llm: LLM, context: StageContext) -> Quality:
    """What an earlier attempt found, or what is found now."""
    folder = context.resume / part.name
    found = _kept(folder / _PART)
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        baseline = context.inputs.get("baseline") if part.asked.data is not None else None
        found = evals.evaluate(llm, part.asked, baseline=baseline, details=folder)
        aside = folder / f"{_PART}.part"
        aside.write_text(json.dumps(report.to_document(found)) + "\n", encoding="utf-8")
        aside.rename(folder / _PART)
    else:
        _log.info("%s: evaluated before, kept", part.name)
    for path in folder.iterdir():
        if path.name != _PART:
            shutil.copyfile(path, context.partial / path.name)
    return found


def _kept(path: Path) -> Quality | None:
    try:
        return report.from_document(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, ArtifactError):
        return None


def _joined(parts: list[Quality]) -> Quality:
    """One report of all parts: the text's figures, and everyone's tasks, tools, notes, times."""
    whole = parts[0]
    for part in parts[1:]:
        whole = replace(
            whole,
            tasks={**whole.tasks, **part.tasks},
            tools=whole.tools or part.tools,
            notes=(*whole.notes, *part.notes),
            seconds={**whole.seconds, **part.seconds},
        )
    return whole
