"""Every combination of the settings of quantization either works or is refused by name."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lmrun.config.schema import (
    KvConfig,
    PruneConfig,
    PruneMethod,
    QuantConfig,
    QuantFormat,
    QuantMethod,
    QuantPreset,
    QuantRange,
    RunConfig,
)
from lmrun.models.spec import ModelSpec, RopeSpec
from lmrun.quant import combinations
from lmrun.quant.combinations import READ, Refusal, check, model_refusals, reads, resolved, skipped
from lmrun.quant.formats import registry

SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    model_type="llama",
    hidden_size=128,
    intermediate_size=384,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    vocab_size=64,
    context_length=256,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    qkv_bias=False,
    qk_norm=False,
    rope=RopeSpec("default", 10000.0),
    dtype="F16",
    bos_token_id=1,
    eos_token_ids=(2,),
)
AXES: dict[str, tuple[Any, ...]] = {
    "method": tuple(QuantMethod),
    "bits": (4, 8),
    "group_size": (0, 32, 64, 128),
    "symmetric": (False, True),
    "activation_bits": (16, 8),
    "range": tuple(QuantRange),
    "act_order": (True, False),
    "damping": (0.01, 0.02),
    "alpha": (None, 0.5),
    "rotate": (False, True),
    "preset": tuple(QuantPreset),
    "format": tuple(QuantFormat),
}
DEFAULT = QuantConfig()


def every_combination() -> Iterator[QuantConfig]:
    for values in itertools.product(*AXES.values()):
        yield QuantConfig(**dict(zip(AXES, values, strict=True)))


def run_of(quant: QuantConfig, **other: Any) -> RunConfig:
    return RunConfig(quant=quant, **other)


def texts(found: tuple[Refusal, ...]) -> list[str]:
    return [one.text for one in found]


def test_every_combination_works_or_is_refused_by_a_sentence_that_names_its_key() -> None:
    accepted: dict[QuantMethod, int] = dict.fromkeys(QuantMethod, 0)
    for quant in every_combination():
        found = check(run_of(quant), SPEC)
        for one in found:
            group, _, leaf = one.key.partition(".")
            assert group == "quant"
            value = getattr(quant, leaf)
            value = str(value).lower() if isinstance(value, bool) else value
            assert one.text.startswith(f"{one.key}={value}: "), one.text
            assert one.text.endswith("."), one.text
        if not found:
            accepted[quant.method] += 1
            _is_sound(quant)
    weights_alone = _schemes_with_formats()
    assert accepted == {
        QuantMethod.none: 2 * 4 * 2 * 2,
        QuantMethod.rtn: weights_alone * 3 * 2,
        QuantMethod.awq: weights_alone * 2,
        QuantMethod.gptq: weights_alone * 3 * 2 * 2 * 2,
        QuantMethod.awq_gptq: weights_alone * 3 * 2 * 2 * 2,
        QuantMethod.autoround: weights_alone * 2 * 2,
        QuantMethod.smoothquant: 2 * 2 * 2,
        QuantMethod.best: weights_alone * 2 * 2,
        QuantMethod.llm_int8: 0,
    }


def _schemes_with_formats() -> int:
    """4 bits in each of five words for a format, 8 bits in all but awq; int8 activations in two."""
    groups_and_zeros = 4 * 2
    return groups_and_zeros * 5 + groups_and_zeros * 4 + 2


def _is_sound(quant: QuantConfig) -> None:
    """What is accepted reads every key that is not at its default, and its format holds it."""
    for leaf in AXES:
        if getattr(quant, leaf) != getattr(DEFAULT, leaf) and leaf != "method":
            passes = quant.method is QuantMethod.none and leaf in combinations.SCHEME
            assert passes or leaf in READ[quant.method], (leaf, quant)
    if quant.method is QuantMethod.none:
        return
    if quant.activation_bits == 8:
        assert (quant.bits, quant.group_size, quant.symmetric) == (8, 0, True)
    form = registry.choose(
        resolved(run_of(quant))["quant.format"],
        quant.bits,
        quant.group_size,
        symmetric=quant.symmetric,
        activation_bits=quant.activation_bits,
    )
    assert (form.bits, form.group_size) == (quant.bits, quant.group_size)
    assert form.activation_bits == quant.activation_bits


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ((4, 64, False, 16), "awq"),
        ((4, 0, False, 16), "gptq_v2"),
        ((8, 64, False, 16), "gptq_v2"),
        ((4, 64, True, 16), "compressed_tensors"),
        ((8, 0, True, 16), "compressed_tensors"),
        ((8, 0, True, 8), "compressed_tensors"),
    ],
)
def test_auto_takes_the_format_that_most_programs_load(
    scheme: tuple[int, int, bool, int], name: str
) -> None:
    bits, group_size, symmetric, activation_bits = scheme
    quant = QuantConfig(
        QuantMethod.rtn, bits, group_size, symmetric, activation_bits=activation_bits
    )
    assert resolved(run_of(quant))["quant.format"] == name


def test_what_a_format_cannot_hold_is_refused_here_as_well_as_where_it_is_written() -> None:
    for bits, group, symmetric, activations, name in itertools.product(
        (4, 8), (0, 32), (False, True), (16, 8), QuantFormat
    ):
        quant = QuantConfig(
            QuantMethod.rtn, bits, group, symmetric, activation_bits=activations, format=name
        )
        try:
            written = resolved(run_of(quant))["quant.format"]
            registry.choose(written, bits, group, symmetric=symmetric, activation_bits=activations)
            holds = True
        except ValueError:
            holds = False
        assert (combinations.format_refusal(quant) is None) == holds, quant


def test_pruning_goes_with_everything_but_a_rotation() -> None:
    for method, sparsity, pattern, rotate in itertools.product(
        PruneMethod, (0.5, 0.7), ("unstructured", "2:4"), (False, True)
    ):
        prune = PruneConfig(method, sparsity, pattern)
        quant = replace(DEFAULT, method=QuantMethod.gptq, rotate=rotate)
        found = check(RunConfig(prune=prune, quant=quant), SPEC)
        keys = {one.key for one in found}
        expected = set()
        if method is PruneMethod.none:
            expected |= {"prune.sparsity"} if sparsity != 0.5 else set()
            expected |= {"prune.pattern"} if pattern == "2:4" else set()
        else:
            expected |= {"quant.rotate"} if rotate else set()
            expected |= {"prune.sparsity"} if pattern == "2:4" and sparsity != 0.5 else set()
        assert keys == expected
        assert all(one.text.startswith(f"{one.key}=") for one in found)


def test_kept_layers_need_a_cache_of_fewer_bits() -> None:
    for bits, keep, keep_bits, layers in itertools.product(
        (4, 8, 16, 32), (0, 1, 2, 3), (8, 16), ([], [1], [0, 0], [2])
    ):
        kv = KvConfig(bits=bits, keep=keep, keep_bits=keep_bits, keep_layers=layers)
        found = check(RunConfig(kv=kv), SPEC)
        if not keep and not layers:
            works = keep_bits == 16
        else:
            works = not (keep and layers) and bits < keep_bits
            works &= len(set(layers)) == len(layers) and max(layers, default=0) < SPEC.num_layers
            works &= keep <= SPEC.num_layers
        assert (not found) == works, kv
        assert all(one.text.startswith(one.key) for one in found)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a key of another method": (
        {"method": QuantMethod.rtn, "damping": 0.02},
        "quant.damping=0.02: quant.method=rtn does not read it. Leave it out, or use"
        " quant.method=gptq or awq_gptq.",
    ),
    "a key without a method": (
        {"rotate": True},
        "quant.rotate=true: nothing is quantized (quant.method=none). Leave it out, or use"
        " quant.method=rtn, awq, gptq, awq_gptq, autoround, smoothquant or best.",
    ),
    "int8 activations beside other weights": (
        {"method": QuantMethod.gptq, "activation_bits": 8, "bits": 8},
        "quant.activation_bits=8: products of int8 codes expect quant.group_size=0 and"
        " quant.symmetric=true, got 128 and false. Use quant=w8a8.",
    ),
    "smoothquant without int8 activations": (
        {"method": QuantMethod.smoothquant},
        "quant.method=smoothquant: moves the range of the activations into the weights, which helps"
        " where activations are rounded: expected quant.activation_bits=8, got 16. Use"
        " quant=w8a8.",
    ),
    "8 bits in the awq format": (
        {"method": QuantMethod.rtn, "bits": 8, "format": QuantFormat.awq},
        "quant.format=awq: holds codes of 4 bits, got quant.bits=8. Use quant.format=gptq_v2.",
    ),
    "int8 activations in the gptq format": (
        {
            "method": QuantMethod.smoothquant,
            "bits": 8,
            "group_size": 0,
            "symmetric": True,
            "activation_bits": 8,
            "format": QuantFormat.gptq,
        },
        "quant.format=gptq: has no 8-bit activations. Use quant.format=compressed_tensors.",
    ),
    "outliers apart": (
        {"method": QuantMethod.llm_int8},
        "quant.method=llm_int8: is not offered: it sends the outlier features of every linear"
        " through a second product in floats. Smoothed int8 activations with a scale a token do"
        " without. Use quant=w8a8, or quant=w8a16 for float activations.",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_word_for_word(what: str) -> None:
    settings, text = REFUSED[what]
    assert texts(check(run_of(QuantConfig(**settings)), SPEC)) == [text]


def test_all_keys_that_are_not_read_are_named_at_once() -> None:
    quant = QuantConfig(QuantMethod.best, act_order=False, alpha=0.5, damping=0.02)
    found = check(run_of(quant))
    assert [one.key for one in found] == ["quant.act_order", "quant.damping", "quant.alpha"]


@pytest.mark.parametrize(
    ("prune", "quant", "text"),
    [
        (
            PruneConfig(pattern="2:4"),
            DEFAULT,
            "prune.pattern=2:4: nothing is pruned (prune.method=none). Leave it out, or use"
            " prune.method=magnitude, wanda or sparsegpt.",
        ),
        (
            PruneConfig(PruneMethod.wanda, 0.7, "2:4"),
            DEFAULT,
            "prune.sparsity=0.7: prune.pattern=2:4 makes half of the weights zero. Leave it out, or"
            " use prune.pattern=unstructured.",
        ),
        (
            PruneConfig(PruneMethod.wanda),
            replace(DEFAULT, method=QuantMethod.rtn, rotate=True),
            "quant.rotate=true: a rotation mixes the weights, and the zeros of prune.method=wanda"
            " are gone. Use one of the two.",
        ),
    ],
)
def test_a_refusal_of_pruning_word_for_word(
    prune: PruneConfig, quant: QuantConfig, text: str
) -> None:
    assert texts(check(RunConfig(prune=prune, quant=quant))) == [text]


@pytest.mark.parametrize(
    ("kv", "text"),
    [
        (
            KvConfig(bits=4, keep=1, keep_layers=[0]),
            "kv.keep=1: kv.keep_layers names the layers already. Use one of the two.",
        ),
        (
            KvConfig(bits=4, keep_bits=8),
            "kv.keep_bits=8: no layer is kept. Use kv.keep or kv.keep_layers beside it.",
        ),
        (
            KvConfig(keep_layers=[1]),
            "kv.keep_layers=[1]: all layers have 16 bits (kv.bits), and kv.keep_bits=16 is no more."
            " Lower kv.bits, or leave kv.keep_layers out.",
        ),
        (
            KvConfig(bits=4, keep_layers=[1, 1]),
            "kv.keep_layers=[1, 1]: names a layer twice. Name each once.",
        ),
        (
            KvConfig(bits=4, keep=3),
            "kv.keep=3: must be at most 2, the layers of this model.",
        ),
        (
            KvConfig(bits=4, keep_layers=[1, 7]),
            "kv.keep_layers=[1, 7]: no layer 7 in this model. Layers are 0 to 1.",
        ),
    ],
)
def test_a_refusal_of_kept_layers_word_for_word(kv: KvConfig, text: str) -> None:
    assert texts(check(RunConfig(kv=kv), SPEC)) == [text]


def test_sizes_of_the_model_rule_out_groups_words_and_fours() -> None:
    odd = replace(SPEC, hidden_size=100, intermediate_size=98, head_dim=25)
    quant = replace(DEFAULT, method=QuantMethod.rtn)
    assert texts(model_refusals(run_of(quant), odd)) == [
        "quant.group_size=128: must divide 100 (in_features of layers.0.self_attn.q_proj). None of"
        " 32, 64 and 128 does. Use quant.method=none, or put it in quant.skip."
    ]
    rows = replace(quant, group_size=0, symmetric=True)
    assert texts(model_refusals(run_of(rows), odd)) == [
        "quant.group_size=0: 8 must divide 100 (in_features of layers.0.self_attn.q_proj). Use"
        " quant.method=none, or put it in quant.skip."
    ]
    int8 = replace(rows, bits=8, activation_bits=8)
    assert model_refusals(run_of(int8), odd) == ()
    fours = RunConfig(prune=PruneConfig(PruneMethod.wanda, pattern="2:4"))
    assert texts(model_refusals(fours, odd)) == [
        "prune.pattern=2:4: 4 must divide 98 (in_features of layers.0.mlp.down_proj). Use"
        " prune.pattern=unstructured."
    ]
    narrow = replace(SPEC, intermediate_size=384 + 4)
    gptq = replace(quant, group_size=64, format=QuantFormat.gptq, skip=["*.down_proj"])
    assert texts(model_refusals(run_of(gptq), narrow)) == [
        "quant.format=gptq: 8 must divide 388 (out_features of layers.0.mlp.gate_proj), whose codes"
        " gptq stores in words. Use quant.format=compressed_tensors, or put it in quant.skip."
    ]
    wide = replace(SPEC, intermediate_size=1 << 18)
    assert texts(model_refusals(run_of(int8), wide)) == [
        "quant.activation_bits=8: must have at most 131072 input features, got 262144"
        " (layers.0.mlp.down_proj): their products may not sum up in 32 bits. Put it in"
        " quant.skip."
    ]


def test_linears_are_skipped_by_name_and_by_pattern() -> None:
    assert skipped(["*.down_proj"], SPEC) == {
        "layers.0.mlp.down_proj",
        "layers.1.mlp.down_proj",
    }
    assert skipped(["layers.0.*"], SPEC) == {linear.name for linear in SPEC.layer(0)}
    assert skipped(["layers.1.self_attn.o_proj"], SPEC) == {"layers.1.self_attn.o_proj"}
    assert skipped([], SPEC) == frozenset()
    quant = replace(DEFAULT, method=QuantMethod.awq, skip=["*.down_proj", "*.head"])
    assert texts(model_refusals(run_of(quant), SPEC)) == [
        "quant.skip: no linear *.head in this model. Names look like layers.0.mlp.down_proj, with"
        " layers 0 to 1."
    ]
    torn = replace(quant, skip=["*.q_proj"])
    assert texts(model_refusals(run_of(torn), SPEC)) == [
        "quant.skip: layers.0.self_attn.q_proj is kept and layers.0.self_attn.k_proj is not; the"
        " engine holds both in one matrix. Keep all of layers.0.self_attn.q_proj,"
        " layers.0.self_attn.k_proj, layers.0.self_attn.v_proj, or none."
    ]


def test_what_is_read_follows_the_settings() -> None:
    assert reads(RunConfig()) == {"quant.method", "prune.method", "kv.bits"}
    kept = reads(RunConfig(kv=KvConfig(bits=4, keep=2)))
    assert {"kv.keep", "kv.keep_bits", "calibration.statistics_samples"} <= kept
    named = reads(RunConfig(kv=KvConfig(bits=4, keep_layers=[1])))
    assert named == {"quant.method", "prune.method", "kv.bits", "kv.keep_bits", "kv.keep_layers"}
    pruned = reads(RunConfig(prune=PruneConfig(PruneMethod.wanda)))
    assert "calibration.data" in pruned
    assert "calibration.statistics_samples" not in pruned
    assert "calibration.data" not in reads(RunConfig(prune=PruneConfig(PruneMethod.magnitude)))


def test_every_method_says_what_it_is_and_what_it_reads() -> None:
    assert set(READ) == set(combinations.METHODS) == set(QuantMethod)
    names = set(QuantConfig.__dataclass_fields__)
    for leaves in READ.values():
        assert set(leaves) <= names
    read_by_some = {leaf for leaves in READ.values() for leaf in leaves}
    assert read_by_some | set(combinations.EVERYWHERE) == names
