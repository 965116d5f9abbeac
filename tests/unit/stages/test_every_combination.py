"""What `lmrun/quant/combinations.py` lets pass is built and served: tiny models, real stages."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lmrun.artifacts.store import Store
from lmrun.config.schema import (
    BackendConfig,
    CalibrationConfig,
    KvConfig,
    ModelConfig,
    PruneConfig,
    PruneMethod,
    QuantConfig,
    QuantFormat,
    QuantMethod,
    QuantPreset,
    RunConfig,
)
from lmrun.engine.llm import LLM
from lmrun.engine.messages import SamplingParams
from lmrun.plan.planner import plan_run
from lmrun.quant import combinations
from lmrun.stages.runner import build
from unit.stages.projects import Project

METHODS = tuple(
    method for method in QuantMethod if method not in (QuantMethod.none, QuantMethod.llm_int8)
)


def _base(project: Project) -> RunConfig:
    return RunConfig(
        model=ModelConfig(path=project.model),
        backend=BackendConfig(max_num_seqs=2, context_length=64),
        calibration=CalibrationConfig(data=str(project.text), samples=2, seq_len=24),
    )


def _schemes(method: QuantMethod) -> Iterator[QuantConfig]:
    for bits, group, symmetric, activations in itertools.product(
        (4, 8), (0, 32), (False, True), (16, 8)
    ):
        quant = QuantConfig(method, bits, group, symmetric, activation_bits=activations)
        if not combinations.config_refusals(RunConfig(quant=quant)):
            yield quant


def _serves(run: RunConfig, store: Store) -> None:
    """Built, the planned size, and tokens from the engine with the planned settings."""
    plan = plan_run(run, store)
    workspace = build(plan, store)
    plan = plan_run(run, store)
    assert not plan.missing
    size = sum(file.stat().st_size for file in workspace.glob("rank-*.safetensors"))
    assert size - (2 << 20) <= plan.budget.weights_bytes <= size
    llm = LLM(replace(plan.engine, threads=1, num_blocks=4, workspace=str(workspace)))
    [output] = llm.generate(["A small boat"], SamplingParams(max_tokens=3, temperature=0.0))
    assert len(output.token_ids) <= 3
    assert output.finish_reason in ("stop", "length")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_scheme_of_a_method_is_built_and_served(
    project: Project, method: QuantMethod
) -> None:
    for quant in _schemes(method):
        for name in QuantFormat:
            run = replace(_base(project), quant=replace(quant, format=name))
            if not combinations.check(run, plan_run(_base(project), project.store).spec):
                _serves(run, project.store)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_a_method_is_built_and_served(
    project: Project, method: QuantMethod
) -> None:
    scheme = list(_schemes(method))[-1]
    changes: dict[str, object] = {
        "rotate": True,
        "act_order": False,
        "damping": 0.05,
        "alpha": 0.5,
        "preset": QuantPreset.best,
        "skip": ["*.down_proj", "layers.1.self_attn.*"],
    }
    for leaf, value in changes.items():
        if leaf in combinations.READ[method]:
            quant = replace(scheme, **{leaf: value})
            _serves(replace(_base(project), quant=quant), project.store)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("method", [one for one in PruneMethod if one is not PruneMethod.none])
def test_every_way_of_pruning_is_built_and_served(
    project: Project, method: PruneMethod, pattern: str
) -> None:
    for quant in (QuantConfig(), QuantConfig(QuantMethod.gptq, group_size=32)):
        run = replace(_base(project), prune=PruneConfig(method, pattern=pattern), quant=quant)
        _serves(run, project.store)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kv",
    [
        KvConfig(bits=4, keep=1),
        KvConfig(bits=8, keep=2),
        KvConfig(bits=4, keep_layers=[2], keep_bits=8),
        KvConfig(bits=4, keep=3),
    ],
    ids=str,
)
def test_kept_layers_of_the_cache_are_served(project: Project, kv: KvConfig) -> None:
    _serves(replace(_base(project), kv=kv), project.store)


@pytest.mark.slow
def test_models_of_other_forms_go_with_every_method(
    write_checkpoint: Callable[..., Path], project: Project
) -> None:
    """Biases, an untied head, and a head_dim that is no power of two."""
    qwen = write_checkpoint(
        "qwen",
        architectures=["Qwen2ForCausalLM"],
        model_type="qwen2",
        head_dim=24,
        tie_word_embeddings=False,
    )
    for method in METHODS:
        quant = list(_schemes(method))[-1]
        for rotate in (False, "rotate" in combinations.READ[method]):
            run = replace(
                _base(project),
                model=ModelConfig(path=str(qwen)),
                quant=replace(quant, rotate=rotate),
            )
            _serves(run, project.store)
