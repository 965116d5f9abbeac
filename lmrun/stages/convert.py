"""convert: a float or quantized checkpoint in, a workspace out. NumPy, a matrix at a time."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.errors import StageError
from lmrun.models.checkpoint import SIDE_FILES, Checkpoint
from lmrun.models.rope import inv_freq
from lmrun.models.spec import LinearSpec, ModelSpec
from lmrun.progress import progress_bar
from lmrun.quant import layout, packing
from lmrun.quant.layout import MATRICES, TensorSize, WeightQuant
from lmrun.quant.stored import stored_quant
from lmrun.stages import tensor_files
from lmrun.stages.checkpoint_codes import CodeReader
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.tensor_files import Array, LazyTensor
from lmrun.stages.workspace_writer import write_workspace

WORKSPACE_SIDE_FILES = tuple(
    name for name in SIDE_FILES if name not in ("tokenizer.model", "added_tokens.json")
)
_LAYER_NORMS = {
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "attention.q_norm.weight": "self_attn.q_norm.weight",
    "attention.k_norm.weight": "self_attn.k_norm.weight",
}


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with the workspace."""
    source = context.inputs.get("quantize") or context.checkpoint
    digest = context.stage.inputs["resolve"]
    assert digest is not None
    return convert(Checkpoint.open(source), context.partial, digest)


def convert(checkpoint: Checkpoint, folder: Path, source_digest: str) -> StageResult:
    """Write the workspace of a checkpoint into an existing folder.

    ``source_digest`` goes into model.json: what the workspace was made from.
    """
    source = _Source(checkpoint)
    sizes = list(layout.workspace_tensors(checkpoint.spec, checkpoint.weight_dtype, source.quant))
    with progress_bar("convert", len(sizes), unit="tensors") as advance:

        def counted(load: Callable[[], Array]) -> Callable[[], Array]:
            def made() -> Array:
                advance(1)
                return load()

            return made

        tensors = [
            LazyTensor(size.name, size.dtype, size.shape, counted(source.loader(size)))
            for size in sizes
        ]
        write_workspace(folder, model_document(checkpoint, source.quant, source_digest), tensors)
    for name in WORKSPACE_SIDE_FILES:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)
    return StageResult()


def model_document(
    checkpoint: Checkpoint, quant: WeightQuant, source_digest: str
) -> dict[str, Any]:
    """The fields of model.json that describe the model."""
    spec = checkpoint.spec
    quantized = quant.method != "none"
    bits = quant.bits if quantized else {"F32": 32, "F16": 16, "BF16": 16}[checkpoint.weight_dtype]
    return {
        "architecture": spec.architecture,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_layers": spec.num_layers,
        "num_heads": spec.num_heads,
        "num_kv_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "context_length": spec.context_length,
        "rms_norm_eps": spec.rms_norm_eps,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "qkv_bias": spec.qkv_bias,
        "qk_norm": spec.qk_norm,
        "attention_scale": spec.attention_scale,
        "rope_attention_factor": 1.0,
        "bos_token_id": spec.bos_token_id,
        "eos_token_ids": list(spec.eos_token_ids),
        "weights": {
            "method": quant.method,
            "bits": bits,
            "group_size": quant.group_size,
            "symmetric": quantized and quant.is_symmetric,
            "activation_bits": quant.activation_bits,
        },
        "source": {"checkpoint": source_digest},
    }


class _Source:
    """Finds the data of each workspace tensor in a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._spec: ModelSpec = checkpoint.spec
        self.quant = stored_quant(checkpoint)
        self._codes = CodeReader(checkpoint, self.quant, self._values)
        self._check_needless_biases()

    def loader(self, size: TensorSize) -> Callable[[], Array]:
        """What makes the data of a workspace tensor."""
        simple = {
            "tok_embeddings.weight": self._checkpoint.embedding_name,
            "output.weight": "lm_head.weight",
        }
        if size.name in simple:
            return lambda: packing.pack_weight(self._raw(simple[size.name])[0])
        if size.name == "norm.weight":
            return lambda: self._float("model.norm.weight")
        if size.name == "rope.inv_freq":
            return lambda: inv_freq(self._spec)
        _, index, rest = size.name.split(".", 2)
        if rest in _LAYER_NORMS:
            return lambda: self._float(f"model.layers.{index}.{_LAYER_NORMS[rest]}")
        matrix, _, suffix = rest.rsplit(".", 2)
        roles = dict(MATRICES)[matrix]
        linears = [linear for linear in self._spec.layer(int(index)) if linear.role in roles]
        if suffix == "weight":
            return lambda: packing.pack_weight(self._rows(linears, self._weight))
        if suffix == "bias":
            return lambda: self._rows(linears, lambda one: self._float(f"{one.prefix}.bias"))
        return lambda: self._codes.tensor(size, linears)

    def _rows(self, linears: list[LinearSpec], part: Callable[[LinearSpec], Array]) -> Array:
        return np.concatenate([part(linear) for linear in linears])

    def _raw(self, name: str) -> tuple[Array, str]:
        """A tensor as stored and its dtype; floats are checked."""
        entry = self._checkpoint.tensors[name]
        array = tensor_files.read(entry)
        if entry.dtype == "BF16":
            finite = bool(((array & 0x7F80) != 0x7F80).all())
        else:
            finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        if not finite:
            raise StageError(
                f"{entry.file}: {name}: expected finite numbers, got NaN or infinity."
                " The checkpoint is damaged: copy it again."
            )
        return array, entry.dtype

    def _float(self, name: str) -> NDArray[np.float32]:
        return tensor_files.to_float32(*self._raw(name))

    def _weight(self, linear: LinearSpec) -> Array:
        """[out, in] in the checkpoint's matrix type."""
        return self._raw(f"{linear.prefix}.weight")[0]

    def _values(self, name: str) -> Array:
        """A tensor as stored; bfloat16 as float32."""
        array, dtype = self._raw(name)
        return tensor_files.to_float32(array, dtype) if dtype == "BF16" else array

    def _check_needless_biases(self) -> None:
        for linear in self._spec.linears:
            name = self._checkpoint.needless_bias(linear)
            if name is not None and self._float(name).any():
                raise StageError(
                    f"{name}: expected zeros, got others: {self._spec.architecture} has no bias"
                    " there. Is config.json that of these weights?"
                )
