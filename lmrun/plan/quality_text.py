"""Figures of an evaluation and the bounds they are held against, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmrun.columns import columns
from lmrun.plan import gate
from lmrun.plan.gate import Gate
from lmrun.plan.plan import Plan

_ERRORS = {
    "ppl": "perplexity_standard_error",
    "ppl_ratio": "ppl_ratio_standard_error",
    "kl": "kl_standard_error",
    "top1": "top1_standard_error",
}


def quality_lines(plan: Plan) -> list[str]:
    """The section of the plan; nothing where nothing is evaluated."""
    if plan.evaluated is None:
        return []
    if plan.quality is None:
        rows = [(f"  {one.name}", one.limit, "not evaluated yet") for one in plan.gates]
        return ["quality   not evaluated yet", *columns(rows)]
    return ["quality", *figure_lines(plan.quality, plan.gates)]


def figure_lines(document: Mapping[str, Any], gates: Sequence[Gate]) -> list[str]:
    """A line for each figure of a quality report: value, standard error, bound, whether it is
    kept; then what the report says beside them."""
    held = {one.name: one for one in gates}
    rows = []
    for name, value in gate.figures(document).items():
        bound = held.get(name)
        rows.append(
            (
                f"  {name}",
                f"{value:.6g}",
                _error(document, name),
                "" if bound is None else f"{bound.limit}: {'passed' if bound.passed else 'FAILED'}",
            )
        )
    absent = [one for one in gates if one.value is None]
    rows += [(f"  {one.name}", "none", "", f"{one.limit}: FAILED") for one in absent]
    return [*columns(rows), *(f"  {text}" for text in _protocol(document))]


def _error(document: Mapping[str, Any], name: str) -> str:
    if name in _ERRORS:
        found = document.get(_ERRORS[name])
    elif name.startswith(gate.TASK):
        found = document["tasks"][name.removeprefix(gate.TASK)]["accuracy_standard_error"]
    else:
        found = document["tools"]["accuracy_standard_error"]
    return "" if found is None else f"± {found:.2g}"


def _protocol(document: Mapping[str, Any]) -> list[str]:
    """What was counted, on what, against what."""
    lines = []
    protocol, baseline = document.get("protocol"), document.get("baseline")
    if protocol:
        bos = "with BOS" if protocol["bos_token_id"] is not None else "without BOS"
        lines.append(
            f"text: {protocol['text']}, {protocol['tokens']} tokens predicted in windows of"
            f" {protocol['window']} {bos}"
            + (f"; KL and top-1 on {protocol['kl_tokens']}" if protocol["kl_tokens"] else "")
        )
    if baseline:
        kv = baseline["engine"].get("kv_bits", 16)
        lines.append(f"baseline: perplexity {baseline['perplexity']:.6g}, KV cache {kv} bits")
    if document.get("kl") is not None:
        lines.append(
            f"kl: nats; 99% of the places below {document['kl_p99']:.3g}, the largest"
            f" {document['kl_max']:.3g}"
        )
    lines += [f"{name}: {_counted(task)}" for name, task in document["tasks"].items()]
    if document["tools"]:
        lines.append(f"tools: {_counted(document['tools'])}")
    return lines + [f"note: {note}" for note in document["notes"]]


_PARTS = {
    "accuracy_norm": "normalized by length",
    "call_accuracy": "calls",
    "word_accuracy": "answers in words",
}


def _counted(score: Mapping[str, Any]) -> str:
    """Items of a task or tools file, and the shares beside its accuracy."""
    shares = [
        f"{text} {score[key]:.6g}" for key, text in _PARTS.items() if score.get(key) is not None
    ]
    return ", ".join([f"{score['items']} item{'s' if score['items'] != 1 else ''}", *shares])
