"""Which settings of `quant`, `prune` and `kv` go together: one pure table. No torch, no NumPy.

`check` names every refusal before anything runs. `config_refusals` are those for any model,
`model_refusals` those that its sizes cause. What neither names works: the stages rely on it.

| question | answered by |
| --- | --- |
| which keys does a method read | `READ`, `reads` |
| what does `auto` stand for | `resolved` |
| which file format holds a scheme | `format_refusal` |
| which linears stay floats | `skipped` |
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from lmrun.config.schema import (
    KvConfig,
    PruneConfig,
    PruneMethod,
    QuantConfig,
    QuantFormat,
    QuantMethod,
    QuantRange,
    RunConfig,
)
from lmrun.config.suggest import listed
from lmrun.models.spec import LinearSpec, ModelSpec
from lmrun.quant.layout import GROUP_MULTIPLE, GROUP_SIZES, MATRICES, MOST_I8_INPUTS

METHODS: Mapping[QuantMethod, str] = {
    QuantMethod.none: "weights stay in the type of the checkpoint",
    QuantMethod.rtn: "round to nearest; needs no calibration",
    QuantMethod.awq: "searched scales of input channels and ranges of groups",
    QuantMethod.gptq: "each weight makes up for the rounding of those before it",
    QuantMethod.awq_gptq: "the scales of awq, then the rounding of gptq",
    QuantMethod.autoround: "rounding learned layer by layer",
    QuantMethod.smoothquant: "int8 weights and activations; ranges move from these to those",
    QuantMethod.best: "the combination that loses least; takes longest",
    QuantMethod.llm_int8: "not offered: quant=w8a8 and quant=w8a16 do without outliers apart",
}
"""Method → what it is, in a line."""
SCHEME = ("bits", "group_size", "symmetric", "activation_bits", "skip")
"""Keys that say how weights are stored, whatever the method."""
_ALL = (*SCHEME, "format")
READ: Mapping[QuantMethod, tuple[str, ...]] = {
    QuantMethod.none: (),
    QuantMethod.rtn: (*_ALL, "range", "rotate"),
    QuantMethod.awq: (*_ALL, "rotate"),
    QuantMethod.gptq: (*_ALL, "range", "act_order", "damping", "rotate"),
    QuantMethod.awq_gptq: (*_ALL, "range", "act_order", "damping", "rotate"),
    QuantMethod.autoround: (*_ALL, "preset", "rotate"),
    QuantMethod.smoothquant: (*_ALL, "alpha", "rotate"),
    QuantMethod.best: (*_ALL, "preset", "rotate"),
    QuantMethod.llm_int8: _ALL,
}
"""Method → the keys of `quant` that decide about its codes, beside `method`."""
EVERYWHERE = ("method", "device", "activation_memory")
"""Keys of `quant` that no method decides about."""
WITHOUT_TEXT = (QuantMethod.none, QuantMethod.rtn)
"""Methods that look at the weights alone."""
PRUNED_WITHOUT_TEXT = (PruneMethod.none, PruneMethod.magnitude)
RANGE_BY_MSE = (QuantMethod.gptq, QuantMethod.awq_gptq)
"""Methods for which `quant.range=auto` is `mse`."""
SPARSE_PATTERN = "2:4"
_WORD_BITS = 32
_LLM_INT8 = (
    "quant.method=llm_int8: is not offered: it sends the outlier features of every linear through a"
    " second product in floats. Smoothed int8 activations with a scale a token do without. Use"
    " quant=w8a8, or quant=w8a16 for float activations."
)


@dataclass(frozen=True)
class Refusal:
    """Why settings cannot be used."""

    key: str
    """Dotted; the text begins with it."""
    text: str


def check(run: RunConfig, spec: ModelSpec | None = None) -> tuple[Refusal, ...]:
    """Everything that stands against the settings; those of a model only where one is given."""
    found = config_refusals(run)
    return found if found or spec is None else model_refusals(run, spec)


def config_refusals(run: RunConfig) -> tuple[Refusal, ...]:
    """What is legal for no model."""
    return (*_of_quant(run.quant), *_of_prune(run.prune, run.quant), *_of_kv(run.kv))


def model_refusals(run: RunConfig, spec: ModelSpec) -> tuple[Refusal, ...]:
    """What this model's sizes rule out; for settings that `config_refusals` lets pass."""
    found: list[Refusal] = []
    if run.quant.method is not QuantMethod.none:
        found += _of_skip(run.quant, spec)
        if not found:
            packed = [one for one in spec.linears if one.name not in skipped(run.quant.skip, spec)]
            found += _of_sizes(run.quant, packed)
    if run.prune.method is not PruneMethod.none and run.prune.pattern == SPARSE_PATTERN:
        found += _of_fours(spec)
    return (*found, *layer_refusals(run.kv, spec))


def reads(run: RunConfig) -> frozenset[str]:
    """Dotted keys of `quant`, `prune`, `kv` and `calibration` that these settings use.

    A stage's fingerprint holds those of its declared keys that stand here, so that no other moves
    it.
    """
    quant, prune, kv = run.quant, run.prune, run.kv
    found = {"quant.method", "prune.method", "kv.bits"}
    found |= {f"quant.{leaf}" for leaf in READ[quant.method]}
    if prune.method is not PruneMethod.none:
        found.add("prune.pattern")
        if prune.pattern != SPARSE_PATTERN:
            found.add("prune.sparsity")
    if kv.keep_layers:
        found |= {"kv.keep_layers", "kv.keep_bits"}
    elif kv.keep:
        found |= {"kv.keep", "kv.keep_bits"}
    if needs_calibration(run) or prunes_by_text(run):
        found |= {f"calibration.{leaf}" for leaf in ("data", "samples", "seq_len", "seed")}
        found.add("calibration.batch_size")
    if needs_calibration(run):
        found.add("calibration.statistics_samples")
    return frozenset(found)


def needs_calibration(run: RunConfig) -> bool:
    """Whether something reads what `calibrate` finds: the method, or the choice of KV layers."""
    return run.quant.method not in WITHOUT_TEXT or run.kv.keep > 0


def prunes_by_text(run: RunConfig) -> bool:
    """Whether the zeros depend on a calibration text."""
    return run.prune.method not in PRUNED_WITHOUT_TEXT


def resolved(run: RunConfig) -> dict[str, Any]:
    """Dotted key → what its `auto` stands for: of `quant.range` and `quant.format`."""
    quant = run.quant
    chosen_range, chosen_format = quant.range, quant.format
    if chosen_range is QuantRange.auto:
        chosen_range = QuantRange.mse if quant.method in RANGE_BY_MSE else QuantRange.full
    if chosen_format is QuantFormat.auto:
        chosen_format = _auto_format(quant)
    return {"quant.range": chosen_range.value, "quant.format": chosen_format.value}


def _auto_format(quant: QuantConfig) -> QuantFormat:
    if quant.activation_bits == 8 or quant.symmetric:
        return QuantFormat.compressed_tensors
    return QuantFormat.awq if quant.bits == 4 and quant.group_size else QuantFormat.gptq_v2


def skipped(patterns: list[str], spec: ModelSpec) -> frozenset[str]:
    """Names of the linears that `quant.skip` names or matches; patterns as `*.down_proj`."""
    if not patterns:
        return frozenset()
    return frozenset(
        linear.name
        for linear in spec.linears
        if any(fnmatchcase(linear.name, pattern) for pattern in patterns)
    )


def _of_quant(quant: QuantConfig) -> Iterator[Refusal]:
    if quant.method is QuantMethod.llm_int8:
        yield Refusal("quant.method", _LLM_INT8)
        return
    yield from _unread(quant)
    if quant.method is QuantMethod.none:
        return
    yield from _of_activations(quant)
    text = format_refusal(quant)
    if text is not None:
        yield Refusal("quant.format", f"quant.format={quant.format}: {text}")


def _unread(quant: QuantConfig) -> Iterator[Refusal]:
    """Keys that the method does not read and that are not at their default.

    Without a method those of the scheme pass: options set them, and the plan says of an override
    that it is not used.
    """
    passing = {*EVERYWHERE, *READ[quant.method]}
    if quant.method is QuantMethod.none:
        passing |= set(SCHEME)
    default = QuantConfig()
    for field in fields(quant):
        value = getattr(quant, field.name)
        if field.name in passing or value == getattr(default, field.name):
            continue
        key = f"quant.{field.name}"
        readers = [method.value for method, leaves in READ.items() if field.name in leaves]
        readers = [one for one in readers if one != QuantMethod.llm_int8]
        why = f"quant.method={quant.method} does not read it"
        if quant.method is QuantMethod.none:
            why = "nothing is quantized (quant.method=none)"
        yield Refusal(
            key, f"{key}={_shown(value)}: {why}. Leave it out, or use {_methods(readers)}."
        )


def _methods(names: list[str]) -> str:
    return f"quant.method={listed(names)}"


def _of_activations(quant: QuantConfig) -> Iterator[Refusal]:
    if quant.activation_bits == 16:
        if quant.method is QuantMethod.smoothquant:
            yield Refusal(
                "quant.method",
                "quant.method=smoothquant: moves the range of the activations into the weights,"
                " which helps where activations are rounded: expected quant.activation_bits=8, got"
                " 16. Use quant=w8a8.",
            )
        return
    wanted = {"bits": 8, "group_size": 0, "symmetric": True}
    wrong = [leaf for leaf, value in wanted.items() if getattr(quant, leaf) != value]
    if wrong:
        expected = [f"quant.{leaf}={_shown(wanted[leaf])}" for leaf in wrong]
        got = [_shown(getattr(quant, leaf)) for leaf in wrong]
        yield Refusal(
            "quant.activation_bits",
            f"quant.activation_bits=8: products of int8 codes expect {listed(expected, 'and')},"
            f" got {listed(got, 'and')}. Use quant=w8a8.",
        )


def format_refusal(quant: QuantConfig) -> str | None:
    """What a format that was asked for cannot hold; None where it can hold the scheme."""
    name = quant.format
    if name in (QuantFormat.auto, QuantFormat.compressed_tensors):
        return None
    if quant.activation_bits == 8:
        return "has no 8-bit activations. Use quant.format=compressed_tensors."
    if name is QuantFormat.awq and quant.bits != 4:
        return "holds codes of 4 bits, got quant.bits=8. Use quant.format=gptq_v2."
    return None


def _of_prune(prune: PruneConfig, quant: QuantConfig) -> Iterator[Refusal]:
    default = PruneConfig()
    if prune.method is PruneMethod.none:
        for leaf in ("sparsity", "pattern"):
            value = getattr(prune, leaf)
            if value != getattr(default, leaf):
                key = f"prune.{leaf}"
                yield Refusal(
                    key,
                    f"{key}={value}: nothing is pruned (prune.method=none). Leave it out, or use"
                    " prune.method=magnitude, wanda or sparsegpt.",
                )
        return
    if prune.pattern == SPARSE_PATTERN and prune.sparsity != default.sparsity:
        yield Refusal(
            "prune.sparsity",
            f"prune.sparsity={prune.sparsity:g}: prune.pattern=2:4 makes half of the weights zero."
            " Leave it out, or use prune.pattern=unstructured.",
        )
    if quant.rotate:
        yield Refusal(
            "quant.rotate",
            f"quant.rotate=true: a rotation mixes the weights, and the zeros of prune.method="
            f"{prune.method} are gone. Use one of the two.",
        )


def _of_kv(kv: KvConfig) -> Iterator[Refusal]:
    if kv.keep and kv.keep_layers:
        yield Refusal(
            "kv.keep",
            f"kv.keep={kv.keep}: kv.keep_layers names the layers already. Use one of the two.",
        )
    asked = "kv.keep" if kv.keep else "kv.keep_layers"
    if not kv.keep and not kv.keep_layers:
        if kv.keep_bits != KvConfig().keep_bits:
            yield Refusal(
                "kv.keep_bits",
                f"kv.keep_bits={kv.keep_bits}: no layer is kept. Use kv.keep or kv.keep_layers"
                " beside it.",
            )
        return
    value = kv.keep or kv.keep_layers
    if kv.bits >= kv.keep_bits:
        yield Refusal(
            asked,
            f"{asked}={value}: all layers have {kv.bits} bits (kv.bits), and kv.keep_bits="
            f"{kv.keep_bits} is no more. Lower kv.bits, or leave {asked} out.",
        )
    if len(set(kv.keep_layers)) < len(kv.keep_layers):
        yield Refusal(
            "kv.keep_layers", f"kv.keep_layers={value}: names a layer twice. Name each once."
        )


def layer_refusals(kv: KvConfig, spec: ModelSpec) -> Iterator[Refusal]:
    """Layers of the KV cache that this model does not have, however its weights are stored."""
    if kv.keep > spec.num_layers:
        yield Refusal(
            "kv.keep",
            f"kv.keep={kv.keep}: must be at most {spec.num_layers}, the layers of this model.",
        )
    beyond = [layer for layer in kv.keep_layers if layer >= spec.num_layers]
    if beyond:
        yield Refusal(
            "kv.keep_layers",
            f"kv.keep_layers={kv.keep_layers}: no layer {beyond[0]} in this model. Layers are 0 to"
            f" {spec.num_layers - 1}.",
        )


def _of_skip(quant: QuantConfig, spec: ModelSpec) -> Iterator[Refusal]:
    names = [linear.name for linear in spec.linears]
    for pattern in quant.skip:
        if not any(fnmatchcase(name, pattern) for name in names):
            yield Refusal("quant.skip", unknown_linear("quant.skip", pattern, spec))
            return
    text = torn_matrix("quant.skip", skipped(quant.skip, spec), spec)
    if text is not None:
        yield Refusal("quant.skip", text)


def unknown_linear(where: str, name: str, spec: ModelSpec) -> str:
    """The sentence about a name or pattern that is no linear of the model."""
    example = spec.layer(0)[-1].name
    return (
        f"{where}: no linear {name} in this model. Names look like {example},"
        f" with layers 0 to {spec.num_layers - 1}."
    )


def torn_matrix(where: str, kept: frozenset[str], spec: ModelSpec) -> str | None:
    """The sentence about linears that share a matrix of the engine and are not kept together."""
    for index in range(spec.num_layers):
        linears = {linear.role: linear for linear in spec.layer(index)}
        for _, roles in MATRICES:
            parts = [linears[role].name for role in roles]
            inside = [name for name in parts if name in kept]
            if inside and len(inside) < len(parts):
                missing = next(name for name in parts if name not in kept)
                return (
                    f"{where}: {inside[0]} is kept and {missing} is not; the engine holds both in"
                    f" one matrix. Keep all of {', '.join(parts)}, or none."
                )
    return None


def _of_sizes(quant: QuantConfig, packed: list[LinearSpec]) -> Iterator[Refusal]:
    if quant.activation_bits == 8:
        wide = next((one for one in packed if one.in_features > MOST_I8_INPUTS), None)
        if wide is not None:
            yield Refusal(
                "quant.activation_bits",
                f"quant.activation_bits=8: must have at most {MOST_I8_INPUTS} input features, got"
                f" {wide.in_features} ({wide.name}): their products may not sum up in 32 bits. Put"
                " it in quant.skip.",
            )
    size = quant.group_size or (1 if quant.activation_bits == 8 else GROUP_MULTIPLE)
    wrong = [linear for linear in packed if linear.in_features % size]
    if wrong:
        yield Refusal("quant.group_size", _group_text(quant, size, packed, wrong))
        return
    yield from _of_words(quant, packed)


def _group_text(
    quant: QuantConfig, size: int, packed: list[LinearSpec], wrong: list[LinearSpec]
) -> str:
    named = max(wrong, key=_hardness)
    what = f"must divide {named.in_features} (in_features of {named.name})"
    if not quant.group_size:
        return f"quant.group_size=0: {size} {what}. Use quant.method=none, or put it in quant.skip."
    fitting = [
        other for other in GROUP_SIZES if all(one.in_features % other == 0 for one in packed)
    ]
    hint = (
        f"Use {listed(fitting)}."
        if fitting
        else f"None of {listed(GROUP_SIZES, 'and')} does. Use quant.method=none, or put it in"
        " quant.skip."
    )
    return f"quant.group_size={quant.group_size}: {what}. {hint}"


def _hardness(linear: LinearSpec) -> int:
    """How many group sizes a linear rules out; `max` keeps the first of equals."""
    return sum(linear.in_features % size != 0 for size in GROUP_SIZES)


def _of_words(quant: QuantConfig, packed: list[LinearSpec]) -> Iterator[Refusal]:
    """Formats that store codes in words of 32 bits along a side that the word must divide."""
    name = _auto_format(quant) if quant.format is QuantFormat.auto else quant.format
    if name is QuantFormat.compressed_tensors:
        return
    width = _WORD_BITS // quant.bits
    for linear in packed:
        sides = [("out_features", linear.out_features)]
        if name is not QuantFormat.awq:
            sides.append(("in_features", linear.in_features))
        for side, features in sides:
            if features % width:
                yield Refusal(
                    "quant.format",
                    f"quant.format={quant.format}: {width} must divide {features} ({side} of"
                    f" {linear.name}), whose codes {name} stores in words. Use"
                    " quant.format=compressed_tensors, or put it in quant.skip.",
                )
                return


def _of_fours(spec: ModelSpec) -> Iterator[Refusal]:
    for linear in spec.layer(0):
        if linear.in_features % 4:
            yield Refusal(
                "prune.pattern",
                f"prune.pattern=2:4: 4 must divide {linear.in_features} (in_features of"
                f" {linear.name}). Use prune.pattern=unstructured.",
            )
            return


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
