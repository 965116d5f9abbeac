"""A Hugging Face checkpoint folder: its files and the headers of its safetensors, no data."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun import env
from lmrun.errors import PlanError
from lmrun.models.code_format import FLOATS, CodeFormat, Packing, StoredTensor
from lmrun.models.quantization_config import code_format
from lmrun.models.registry import (
    CONFIG_FILE,
    GENERATION_FILE,
    read_json,
    read_spec,
    spec_from_config,
)
from lmrun.models.safetensors_header import TensorEntry, read_header
from lmrun.models.spec import LinearSpec, ModelSpec

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
WORKSPACE_FILE = "model.json"
WORKSPACE_FORMAT = "lmrun-workspace"
SIDE_FILES = (
    GENERATION_FILE,
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Read beside config.json and the weights, where the folder has them."""
PICKLE_SUFFIXES = (".bin", ".pt", ".pth")
MATRIX_DTYPES = FLOATS
CODE_SUFFIXES = (".qweight", ".weight_packed")


@dataclass(frozen=True)
class Checkpoint:
    """Header-only view of a checkpoint folder. Made by `Checkpoint.open`."""

    path: Path
    spec: ModelSpec
    tensors: Mapping[str, TensorEntry]
    code_format: CodeFormat | None
    """How quantized linears are stored; None where there are none."""
    files: tuple[Path, ...]
    """Every file whose bytes matter, sorted by name: they make the checkpoint's digest."""

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Read config.json and the headers; check names, shapes and types against the spec.

        Raises `PlanError` for a folder that cannot be served: pickle only, an architecture or a
        quantization that is not built yet, a missing or foreign tensor, a truncated file.
        """
        if not path.is_dir():
            raise PlanError(f"{path}: expected a model folder, got no folder.")
        spec = read_spec(path)
        form = code_format(read_json(path / CONFIG_FILE), str(path / CONFIG_FILE))
        tensors, weight_files = _read_tensors(path)
        side = [path / name for name in (CONFIG_FILE, *SIDE_FILES) if (path / name).is_file()]
        checkpoint = cls(path, spec, tensors, form, tuple(sorted([*side, *weight_files])))
        checkpoint._check()
        return checkpoint

    @classmethod
    def assemble(
        cls,
        path: Path,
        config: Mapping[str, Any],
        generation: Mapping[str, Any],
        tensors: Mapping[str, TensorEntry],
        files: tuple[Path, ...],
    ) -> "Checkpoint":
        """A checkpoint whose files are not in ``path`` yet, from what was read elsewhere.

        The same checks and errors as `open`.
        """
        spec = spec_from_config(config, str(path / CONFIG_FILE), generation)
        form = code_format(config, str(path / CONFIG_FILE))
        checkpoint = cls(path, spec, tensors, form, files)
        checkpoint._check()
        return checkpoint

    def _check(self) -> None:
        self._check_names()
        self._check_shapes()

    @property
    def embedding_name(self) -> str:
        """Name of the embedding matrix; some tied checkpoints store it as `lm_head.weight`."""
        name = "model.embed_tokens.weight"
        if name not in self.tensors and self.spec.tie_word_embeddings:
            return "lm_head.weight"
        return name

    @property
    def weight_dtype(self) -> str:
        """`F32`, `F16` or `BF16`: the type that all matrices that are no codes share."""
        names = [self.embedding_name]
        if not self.spec.tie_word_embeddings:
            names.append("lm_head.weight")
        names += [
            f"{linear.prefix}.weight"
            for linear in self.spec.linears
            if not self.is_quantized(linear)
        ]
        found: dict[str, str] = {}
        for name in names:
            if name in self.tensors:
                found.setdefault(self.tensors[name].dtype, name)
        if len(found) > 1:
            listed = ", ".join(f"{dtype} ({name})" for dtype, name in found.items())
            raise PlanError(
                f"{self.path}: expected one dtype for all matrices, got {listed}."
                " Mixed types are not built yet: save the checkpoint in one type."
            )
        return next(iter(found))

    def is_quantized(self, linear: LinearSpec) -> bool:
        """Whether a linear is stored as codes."""
        if self.code_format is None:
            return False
        entry = self.tensors.get(f"{linear.prefix}.{self.code_format.packing.marker}")
        return entry is not None and entry.dtype not in MATRIX_DTYPES

    def needless_bias(self, linear: LinearSpec) -> str | None:
        """The bias of a quantized linear that has none: some tools store zeros for it."""
        name = f"{linear.prefix}.bias"
        is_stored = name in self.tensors and self.is_quantized(linear)
        return name if is_stored and not linear.has_bias else None

    def _check_names(self) -> None:
        expected = set(self.spec.float_tensors())
        if self.embedding_name == "lm_head.weight":
            expected.remove("model.embed_tokens.weight")
            expected.add("lm_head.weight")
        optional: set[str] = set()
        for linear in self.spec.linears:
            if self.code_format and self.is_quantized(linear):
                expected.discard(f"{linear.prefix}.weight")
                for suffix, tensor in self.code_format.tensors(linear).items():
                    (optional if tensor.is_optional else expected).add(f"{linear.prefix}.{suffix}")
                optional.add(f"{linear.prefix}.bias")
        elsewhere = next((name for name in self.tensors if name.endswith(CODE_SUFFIXES)), None)
        if self.code_format is None and elsewhere is not None:
            raise PlanError(
                f"{self.path}: {elsewhere} holds codes, and {CONFIG_FILE} has no"
                " quantization_config. Copy into it what quantize_config.json or quant_config.json"
                " says, with quant_method."
            )
        missing = sorted(expected - set(self.tensors))
        if missing:
            raise PlanError(
                f"{self.path}: expected tensor {missing[0]} ({len(missing)} missing),"
                f" got none of that name. Is config.json that of these weights?"
            )
        allowed = expected | optional
        if self.spec.tie_word_embeddings:
            allowed.add("lm_head.weight")
        foreign = sorted(
            name
            for name in set(self.tensors) - allowed
            if not name.endswith(".rotary_emb.inv_freq")
        )
        if foreign:
            raise PlanError(
                f"{self.path}: {self.spec.architecture} has no place for tensor {foreign[0]}"
                f" ({len(foreign)} such). Is config.json that of these weights?"
            )

    def _check_shapes(self) -> None:
        shapes = dict(self.spec.float_tensors())
        shapes["lm_head.weight"] = (self.spec.vocab_size, self.spec.hidden_size)
        if self.code_format is not None:
            for linear in self.spec.linears:
                if self.is_quantized(linear):
                    shapes.pop(f"{linear.prefix}.weight", None)
                    self._check_codes(self.code_format, linear)
        for name, shape in shapes.items():
            if name in self.tensors:
                self._check_tensor(name, StoredTensor((shape,), MATRIX_DTYPES))

    def _check_codes(self, form: CodeFormat, linear: LinearSpec) -> None:
        n, k, word = linear.out_features, linear.in_features, form.codes_per_word
        if form.group_size and k % form.group_size:
            raise PlanError(
                f"{self.path}: group_size {form.group_size}: must divide {k} (in_features of"
                f" {linear.name})."
            )
        divided = {Packing.awq: (n,), Packing.gptq: (n, k)}.get(form.packing, ())
        if any(size % word for size in divided):
            raise PlanError(
                f"{self.path}: {form.method} with {form.bits} bits: {word} must divide the sizes of"
                f" {linear.name}, [{n}, {k}]."
            )
        for suffix, tensor in form.tensors(linear).items():
            name = f"{linear.prefix}.{suffix}"
            if name in self.tensors or not tensor.is_optional:
                self._check_tensor(name, tensor)
        bias = self.needless_bias(linear)
        if bias is not None:
            self._check_tensor(bias, StoredTensor(((n,),), MATRIX_DTYPES))

    def _check_tensor(self, name: str, tensor: StoredTensor) -> None:
        entry = self.tensors[name]
        if entry.shape not in tensor.shapes or entry.dtype not in tensor.dtypes:
            raise PlanError(
                f"{entry.file}: {name}: expected {' or '.join(tensor.dtypes)}"
                f" {list(tensor.shapes[0])}, got {entry.dtype} {list(entry.shape)}."
            )


def find_model(name: str) -> Path:
    """The folder that ``model.path`` names: as given, else a bare name under $LMRUN_MODELS.

    Raises `PlanError` listing every place that was searched.
    """
    given = Path(name).expanduser()
    places = [given.absolute()]
    if not given.is_absolute() and len(given.parts) == 1:
        places += [folder / name for folder in env.model_folders()]
    for place in places:
        if os.path.isdir(place):  # noqa: PTH112 - False also for a name that no file can have
            return place.resolve()
    if os.path.exists(given):  # noqa: PTH110
        raise PlanError(
            f"model.path={name}: expected a folder, got a file. Name the folder that it lies in."
        )
    hint = "" if env.model_folders() else " $LMRUN_MODELS is not set."
    raise PlanError(
        f"model.path={name}: no such folder. Searched {', '.join(map(str, places))}.{hint}"
    )


def is_workspace(path: Path) -> bool:
    """Whether a folder is an engine workspace rather than a checkpoint."""
    file = path / WORKSPACE_FILE
    return file.is_file() and read_json(file).get("format") == WORKSPACE_FORMAT


def _read_tensors(path: Path) -> tuple[dict[str, TensorEntry], list[Path]]:
    index = path / INDEX_FILE
    if index.is_file():
        return _read_shards(path, index)
    single = path / SINGLE_FILE
    if single.is_file():
        return read_header(single), [single]
    raise no_safetensors(str(path), [file.name for file in path.iterdir()])


def no_safetensors(where: str, names: Iterable[str], model: str | None = None) -> PlanError:
    """The refusal of a folder or a repository without safetensors, by the names of its files.

    ``model`` is what transformers would load (default: ``where``).
    """
    pickles = sorted(name for name in names if Path(name).suffix in PICKLE_SUFFIXES)
    if pickles:
        return PlanError(
            f"{where}: expected {SINGLE_FILE}, got only {', '.join(pickles)}. Those are pickle"
            " files, which lmrun does not read: loading one can run code. Where you trust it,"
            " convert it:"
            ' python -c "import sys; from transformers import AutoModelForCausalLM as M;'
            " M.from_pretrained(sys.argv[1], dtype='auto').save_pretrained(sys.argv[2])\""
            f" {model or where} NEW_FOLDER (and copy the tokenizer files)."
        )
    return PlanError(f"{where}: expected {SINGLE_FILE} or {INDEX_FILE}, got neither.")


def shard_names(weight_map: Any, index: str) -> list[str]:  # noqa: ANN401 - JSON not yet checked
    """Files that an index names, sorted; they stand beside it. ``index`` begins the messages."""
    if not isinstance(weight_map, dict) or not weight_map:
        raise PlanError(f"{index}: weight_map: expected an object, got {weight_map!r}.")
    shards = sorted({str(name) for name in weight_map.values()})
    for shard in shards:
        if Path(shard).name != shard:
            raise PlanError(f"{index}: expected the shard {shard} beside it, got no such file.")
    return shards


def merge_shards(
    weight_map: Mapping[str, Any], shards: Mapping[str, Mapping[str, TensorEntry]], path: Path
) -> dict[str, TensorEntry]:
    """The tensors that an index takes from its shards; `PlanError` where one is absent."""
    tensors = {
        name: entry
        for shard, entries in shards.items()
        for name, entry in entries.items()
        if weight_map.get(name) == shard
    }
    absent = sorted(set(weight_map) - set(tensors))
    if absent:
        raise PlanError(
            f"{path / str(weight_map[absent[0]])}: expected tensor {absent[0]}, as"
            f" {INDEX_FILE} says, got none of that name."
        )
    return tensors


def _read_shards(path: Path, index: Path) -> tuple[dict[str, TensorEntry], list[Path]]:
    weight_map = read_json(index).get("weight_map")
    names = shard_names(weight_map, str(index))
    for shard in names:
        if not (path / shard).is_file():
            raise PlanError(f"{index}: expected the shard {shard} beside it, got no such file.")
    shards = {shard: read_header(path / shard) for shard in names}
    assert isinstance(weight_map, dict)
    return merge_shards(weight_map, shards, path), [index, *(path / shard for shard in names)]
