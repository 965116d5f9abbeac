"""The native engine computes what transformers computes, on seeded models of several shapes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from acceptance.reference import RoundedCache
from lmrun._engine import Engine, supported_isas
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.tokenizer import Tokenizer
from lmrun.quant import packing, rtn
from lmrun.quant.weight import Scheme
from lmrun.stages.convert import convert

TOLERANCE = 1e-3
"""Of a logit: the bound the engine is held to on real checkpoints."""
CONTEXT = 160


@dataclass(frozen=True)
class Shape:
    """A small decoder; ``group_size`` 0 leaves the linears in ``dtype``."""

    name: str
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int = 64
    intermediate: int = 96
    tied: bool = False
    dtype: str = "float32"
    group_size: int = 0
    family: str = "llama"


FAMILIES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SHAPES = [
    Shape("mha untied, head_dim 8", heads=4, kv_heads=4, head_dim=8),
    Shape("gqa tied, head_dim 16", heads=4, kv_heads=2, head_dim=16, tied=True),
    Shape("mqa, head_dim 64, sizes off the tile", 3, 1, 64, hidden=72, intermediate=100),
    Shape("gqa, head_dim 40, float16", 6, 3, 40, hidden=66, dtype="float16"),
    Shape("gqa tied, head_dim 32, bfloat16, odd sizes", 3, 1, 32, 51, 77, True, "bfloat16"),
    Shape("w4 group 32", 4, 2, 32, hidden=64, intermediate=96, group_size=32),
    Shape("w4 group 64, tied float16", 8, 2, 16, 128, 192, True, "float16", 64),
    Shape("w4 group 128", 4, 4, 32, hidden=128, intermediate=256, group_size=128),
    Shape("qkv bias, w4 group 32", 4, 2, 16, dtype="bfloat16", group_size=32, family="qwen2"),
    Shape("qk norm", 4, 2, 16, dtype="bfloat16", family="qwen3"),
]


def _model(shape: Shape) -> PreTrainedModel:
    """Seeded weights, biases and norms included, rounded to the type they are stored in.

    Computes in float32, as the engine does.
    """
    config_class, model_class = FAMILIES[shape.family]
    config = config_class(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=2,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=211,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=shape.tied,
        attn_implementation="eager",
        bos_token_id=1,
        eos_token_id=2,
    )
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(len(shape.name))
    for name, parameter in model.named_parameters():
        centre = 1.0 if "norm" in name else 0.0
        values = centre + 0.1 * torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(values.to(getattr(torch, shape.dtype)))
    return model  # type: ignore[no-any-return]


def _stored(
    model: PreTrainedModel, shape: Shape
) -> tuple[dict[str, torch.Tensor], dict[str, NDArray[Any]]]:
    """Tensors of the checkpoint, floats apart from AutoAWQ words.

    Where the shape is quantized the linears of the model become what their codes mean.
    """
    floats: dict[str, torch.Tensor] = {}
    words: dict[str, NDArray[Any]] = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and shape.tied:
            continue
        if not shape.group_size or not name.endswith("_proj.weight"):
            floats[name] = tensor.to(getattr(torch, shape.dtype))
            continue
        quantized = rtn.quantize(tensor, Scheme(4, shape.group_size))
        tensor.copy_(quantized.dequantize())
        prefix = name.removesuffix(".weight")
        codes, zeros = quantized.codes.numpy(), quantized.zeros.numpy()
        words[f"{prefix}.qweight"] = packing.pack_awq(np.ascontiguousarray(codes.T))
        words[f"{prefix}.qzeros"] = packing.pack_awq(np.ascontiguousarray(zeros.T))
        words[f"{prefix}.scales"] = np.ascontiguousarray(quantized.scales.numpy().T)
    return floats, words


def _workspace(model: PreTrainedModel, shape: Shape, folder: Path) -> Path:
    """The workspace of a model, by way of a checkpoint."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    floats, words = _stored(model, shape)
    save_file(
        {**floats, **{name: torch.from_numpy(array) for name, array in words.items()}},
        checkpoint / "model.safetensors",
    )
    config = model.config.to_dict() | {"torch_dtype": shape.dtype}
    if shape.group_size:
        config["quantization_config"] = {
            "quant_method": "awq",
            "bits": 4,
            "group_size": shape.group_size,
            "zero_point": True,
            "version": "gemm",
        }
    (checkpoint / "config.json").write_text(json.dumps(config))
    workspace = folder / "workspace"
    workspace.mkdir()
    convert(Checkpoint.open(checkpoint), workspace, "0" * 64)
    return workspace


@dataclass(frozen=True)
class Twin:
    """One model, in transformers and in a workspace."""

    model: PreTrainedModel
    workspace: Path

    def engine(self, **changes: str | int | bool) -> Engine:
        """An engine whose prompts take several steps."""
        settings: dict[str, Any] = {
            "workspace": str(self.workspace),
            "isa": "auto",
            "threads": 1,
            "num_blocks": 20,
            "block_size": 16,
            "kv_bits": 32,
            "activation_bits": 32,
            "max_num_seqs": 4,
            "max_batch_tokens": 48,
            "context_length": CONTEXT,
            "prefix_caching": False,
        }
        return Engine(**(settings | changes))


@pytest.fixture(scope="module", params=SHAPES, ids=[shape.name for shape in SHAPES])
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """A model of each shape."""
    model = _model(request.param)
    return Twin(model, _workspace(model, request.param, tmp_path_factory.mktemp("twin")))


def _tokens(count: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(count).integers(0, 211, count)]


@torch.inference_mode()
def _reference(twin: Twin, tokens: list[int], cache: DynamicCache | None = None) -> Any:
    output = twin.model(torch.tensor([tokens]), past_key_values=cache, use_cache=cache is not None)
    return output.logits[0].numpy()


@pytest.mark.parametrize("isa", supported_isas())
def test_logits_are_those_of_transformers(twin: Twin, isa: str) -> None:
    engine = twin.engine(isa=isa)
    for count in (1, 2, 17, CONTEXT):
        tokens = _tokens(count)
        difference = np.abs(engine.logits(tokens) - _reference(twin, tokens)).max()
        assert difference < TOLERANCE


def test_16_bit_cache_is_transformers_with_keys_and_values_rounded(twin: Twin) -> None:
    tokens = _tokens(100)
    logits = twin.engine(kv_bits=16).logits(tokens)
    # Not zero: a sum in another order puts a few values on the other side of a rounding boundary.
    error = np.abs(logits - _reference(twin, tokens, RoundedCache())).mean()
    error_of_no_rounding = np.abs(logits - _reference(twin, tokens)).mean()
    assert error < error_of_no_rounding / 4


@pytest.mark.parametrize("bits", [8, 4])
def test_a_smaller_cache_moves_logits_a_little(twin: Twin, bits: int) -> None:
    tokens = _tokens(100)
    exact = twin.engine().logits(tokens)
    error = np.abs(twin.engine(kv_bits=bits).logits(tokens) - exact).mean()
    assert 0 < error < {8: 0.02, 4: 0.3}[bits] * exact.std()


def test_logits_do_not_depend_on_chunks_or_threads(twin: Twin) -> None:
    tokens = _tokens(130)
    expected = twin.engine(max_batch_tokens=160, kv_bits=4).logits(tokens)
    for budget, threads in ((7, 1), (64, 2), (16, 2)):
        engine = twin.engine(max_batch_tokens=budget, threads=threads, kv_bits=4)
        assert np.array_equal(engine.logits(tokens), expected)


def _greedy(engine: Engine, prompt: list[int], count: int) -> list[int]:
    return _greedy_with_logprobs(engine, prompt, count)[0]


def _greedy_with_logprobs(
    engine: Engine, prompt: list[int], count: int
) -> tuple[list[int], list[float]]:
    engine.submit(
        1,
        prompt,
        temperature=0.0,
        top_k=None,
        top_p=1.0,
        seed=0,
        max_tokens=count,
        min_tokens=0,
        stop_token_ids=[],
        logit_bias={},
        logprobs=0,
    )
    got: list[int] = []
    logprobs: list[float] = []
    while engine.has_work():
        for output in engine.step():
            got += output.token_ids
            logprobs += output.logprobs
    return got, logprobs


def test_greedy_tokens_are_those_of_transformers(twin: Twin) -> None:
    prompt = _tokens(9)
    got, logprobs = _greedy_with_logprobs(twin.engine(), prompt, 64)
    logits = torch.from_numpy(_reference(twin, prompt + got[:-1])[len(prompt) - 1 :])
    assert got == logits.argmax(-1).tolist()
    expected = logits.log_softmax(-1)[torch.arange(64), torch.tensor(got)]
    assert np.abs(np.array(logprobs) - expected.numpy()).max() < TOLERANCE


def test_scores_are_the_log_probabilities_of_transformers(twin: Twin) -> None:
    tokens = _tokens(90)
    engine = twin.engine()
    engine.score(1, tokens)
    outputs = [output for _ in range(3) for output in engine.step()]
    assert not engine.has_work()
    scores = outputs[-1].scores
    assert scores is not None
    logits = torch.from_numpy(_reference(twin, tokens)[:-1]).log_softmax(-1)
    expected = logits[torch.arange(89), torch.tensor(tokens[1:])].numpy()
    assert np.abs(scores - expected).max() < TOLERANCE


@pytest.mark.parametrize("name", ["stories3m", "tinystories-656k", "stories260k"])
def test_a_real_checkpoint_gives_the_logits_and_greedy_tokens_of_transformers(
    name: str, test_data: Path, tmp_path: Path
) -> None:
    folder = test_data / "models" / name
    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    convert(Checkpoint.open(folder), tmp_path, "0" * 64)
    twin = Twin(model, tmp_path)
    text = (test_data / "text" / "stories.valid.txt").read_text(encoding="utf-8")
    ids = Tokenizer.from_folder(folder).encode(text[:40000], add_special_tokens=False)
    engine = twin.engine(context_length=512, num_blocks=64)
    for index in range(20):
        prompt = [1, *ids[index * 200 : index * 200 + 5 + index * 11]]
        assert np.abs(engine.logits(prompt) - _reference(twin, prompt)).max() < TOLERANCE
        if index % 4 == 0:
            got = _greedy(engine, prompt, 128)
            expected = _reference(twin, prompt + got[:-1])[len(prompt) - 1 :].argmax(-1)
            assert got == expected.tolist()
