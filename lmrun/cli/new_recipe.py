"""The text of a recipe that `lmrun new` writes: settings, and in comments the figures behind."""

import json
from collections.abc import Iterator
from pathlib import Path

from lmrun.config import recipe_schema
from lmrun.config.schema import QuantMethod
from lmrun.errors import ArtifactError
from lmrun.models import chat_template
from lmrun.plan.choosing import Chosen
from lmrun.plan.plan import ModelKind
from lmrun.plan.sizes import show_bytes, things

_OPTIONS_OF_AWQ = "awq_w4_g{}"
_GROUPS_OF_RTN = 128
"""Of the option `rtn`."""


def recipe_text(chosen: Chosen) -> str:
    """A YAML document that ends with a newline."""
    return "\n".join(_lines(chosen)) + "\n"


def _lines(chosen: Chosen) -> Iterator[str]:
    plan, run = chosen.plan, chosen.run
    device = plan.device
    is_float = run.quant.method is QuantMethod.none
    weights = f"{plan.weight_dtype} weights" if is_float else "4-bit weights"
    if not chosen.can_quantize:
        weights = "weights as they are"
    yield (
        f"# {plan.served_name}: {weights} and a {run.kv.bits}-bit KV cache, which fit the"
        f" {show_bytes(device.memory_bytes)} of this machine."
    )
    yield recipe_schema.MODELINE
    yield "defaults:"
    yield from _quant(chosen)
    yield from _kv(chosen)
    if run.quant.method is QuantMethod.rtn and run.quant.group_size != _GROUPS_OF_RTN:
        yield "quant:"
        yield f"  group_size: {run.quant.group_size}"
    yield "model:"
    yield from _model(chosen)
    yield "backend:"
    yield from _context(chosen)


def _quant(chosen: Chosen) -> Iterator[str]:
    plan, group_size = chosen.plan, chosen.group_size
    size = show_bytes(plan.budget.weights_bytes)
    option = "none"
    if not chosen.can_quantize:
        yield f"  # The model's weights are stored as they will be served: {size}."
    elif chosen.run.quant.method is not QuantMethod.none:
        is_awq = chosen.run.quant.method is QuantMethod.awq
        option = _OPTIONS_OF_AWQ.format(group_size) if is_awq else "rtn"
        yield (
            f"  # {size} of weights; in 16 bits they do not fit. Groups of {group_size} divide"
            " every linear."
        )
        if not is_awq:
            yield "  # Round-to-nearest: the calibration of awq does not fit this machine."
    elif group_size is None:
        yield f"  # {size} of weights. No group size divides every linear, so they stay floats."
    else:
        less = f", {show_bytes(chosen.in_4_bits)}" if chosen.in_4_bits is not None else ""
        yield (
            f"  # {size} of weights. In 4 bits{less}: {_OPTIONS_OF_AWQ.format(group_size)}"
            f" (groups of {group_size} divide every linear)."
        )
    yield f"  - override /quant: {option}"


def _kv(chosen: Chosen) -> Iterator[str]:
    budget, engine = chosen.plan.budget, chosen.plan.engine
    held = budget.sequences_of(engine.context_length)
    yield (
        f"  # {show_bytes(budget.kv_bytes_per_token)} a token; {show_bytes(budget.kv_bytes)} hold"
        f" {things(held.sequences, 'sequence')} of {held.length} tokens."
    )
    yield f"  - override /kv: kv{chosen.run.kv.bits}"


def _model(chosen: Chosen) -> Iterator[str]:
    model, hub = chosen.run.model, chosen.plan.hub
    if hub is not None:
        yield f"  hub_id: {json.dumps(hub.hub_id)}"
        yield f"  revision: {json.dumps(hub.commit)}  # one commit, so that a lock can pin it"
    else:
        yield f"  path: {json.dumps(model.path, ensure_ascii=False)}"
    template = _template(chosen)
    if template is not None:
        yield f"  # {template}"


def _template(chosen: Chosen) -> str | None:
    """What is to be said of the chat template; None where there is one, or it is not known."""
    plan = chosen.plan
    if plan.model_kind is ModelKind.builtin or (plan.hub is not None and plan.hub.missing):
        return None
    if not (Path(plan.model_path) / "tokenizer.json").is_file():
        return "tokenizer.json is missing: the model can be planned, not served."
    try:
        found = chat_template.load("auto", Path(plan.model_path))
    except ArtifactError as error:
        return f"The chat template cannot be read: {' '.join(str(error).split())}"
    if found is not None:
        return None
    names = ", ".join(sorted(chat_template.NAMED_TEMPLATES))
    return f"No chat template, so completions alone. To chat, add chat_template: a file or {names}."


def _context(chosen: Chosen) -> Iterator[str]:
    engine, spec = chosen.plan.engine, chosen.plan.spec
    why = "the model's own"
    if chosen.is_shortened:
        why = f"of the model's {spec.context_length}, which do not fit"
    yield f"  context_length: {engine.context_length}  # {why}"
    yield f"  max_num_seqs: {engine.max_num_seqs}"
