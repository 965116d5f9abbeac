"""calibrate: what the float model's linears see on a text. Nothing here knows bits or groups.

The artifact is one file, `FILE_NAME`; `lmrun/stages/README.md` lists its tensors.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.tokenizer import Tokenizer
from lmrun.progress import progress_bar
from lmrun.stages import sample_text, tensor_files
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.decoder import LayerTrace
from lmrun.stages.layer_source import CheckpointSource
from lmrun.stages.layer_stream import LayerStream, StreamSettings
from lmrun.stages.tensor_files import Array, LazyTensor
from lmrun.stages.workers import Workers

FILE_NAME = "calibration.safetensors"
TOKEN_IDS = "token_ids"
CHARACTERS_PER_TOKEN = 8
"""Of the built-in text, generously: it is made as long as the sequences need."""
ACTIVATION_MEMORY = 1 << 30
"""Bytes for the hidden states; what is more goes to the disk."""
SHORTEST_SEQUENCE = 8
"""Least calibration.seq_len, in tokens."""


@dataclass(frozen=True)
class CalibrationText:
    """Text to take sequences from."""

    text: str
    source: str
    """As error messages name it."""


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with `FILE_NAME`."""
    checkpoint = Checkpoint.open(context.checkpoint)
    samples = int(context.value("calibration.samples"))
    seq_len = int(context.value("calibration.seq_len"))
    tokenizer = Tokenizer.from_folder(context.checkpoint)
    text = read_text(context.plan.calibration_text, samples * seq_len * CHARACTERS_PER_TOKEN)
    token_ids = take_sequences(
        tokenizer, text, samples, seq_len, int(context.value("calibration.seed"))
    )
    if int(token_ids.max()) >= checkpoint.spec.vocab_size:
        raise StageError(
            f"{context.checkpoint}: expected token ids below {checkpoint.spec.vocab_size}, got"
            f" {int(token_ids.max())}. The tokenizer is not that of the model."
        )
    settings = StreamSettings(
        activation_memory=ACTIVATION_MEMORY, name="calibrate", workers=Workers(context.threads)
    )
    stream = LayerStream(
        CheckpointSource(checkpoint), torch.from_numpy(token_ids), settings, context.resume
    )
    with (
        torch.no_grad(),
        progress_bar(
            "calibrate", checkpoint.spec.num_layers, stream.num_done, unit="layers"
        ) as advance,
    ):
        for layer in stream.layers():
            observer = _Observer(token_ids.size)
            layer.observe(observer)
            layer.finish(observer.statistics(f"layers.{layer.index}"))
            advance(1)
    _write(context.partial / FILE_NAME, checkpoint.spec.num_layers, token_ids, stream)
    fallbacks: tuple[str, ...] = ()
    if tokenizer.bos_token_id is None:
        fallbacks = ("the tokenizer has no BOS token: sequences start without one",)
    return StageResult(metrics={"tokens": int(token_ids.size)}, fallbacks=fallbacks)


def read_text(path: Path | None, num_characters: int) -> CalibrationText:
    """A .txt file as it is, the `text` fields of a .jsonl file, or None for the built-in text.

    ``num_characters`` is how long the built-in text is made.
    """
    if path is None:
        return CalibrationText(sample_text.text(num_characters), "builtin:sample")
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StageError(f"{path}: expected UTF-8 text, got {error.reason}.") from error
    if path.suffix == ".jsonl":
        lines = [line for line in enumerate(content.splitlines(), 1) if line[1].strip()]
        content = "\n".join(_text_field(path, number, line) for number, line in lines)
    return CalibrationText(content, str(path))


def _text_field(path: Path, number: int, line: str) -> str:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise StageError(f"{path}:{number}: expected a JSON object a line, got {error}.") from error
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise StageError(f"{path}:{number}: expected an object with a string `text`, got none.")
    return text


def take_sequences(
    tokenizer: Tokenizer, text: CalibrationText, samples: int, seq_len: int, seed: int
) -> NDArray[np.int32]:
    """Token ids [samples, seq_len]: disjoint pieces of the text, BOS before each.

    The seed chooses the pieces; they stay in the order of the text. Too little text is refused
    with the counts.
    """
    ids = tokenizer.encode(text.text, add_special_tokens=False)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    piece = seq_len - len(bos)
    available = len(ids) // piece
    if available < samples:
        longest = len(ids) + len(bos)
        if available:
            advice = f"Use calibration.samples={available}, shorter sequences, or a longer text."
        elif longest >= SHORTEST_SEQUENCE:
            advice = f"Use calibration.seq_len={longest} or less, or a longer text."
        else:
            advice = "Use a longer text."
        raise StageError(
            f"calibration.data={text.source}: expected text for {samples} sequences of {seq_len}"
            f" tokens ({samples * piece} tokens), got {len(ids)} tokens. {advice}"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = np.sort(rng.permutation(available)[:samples])
    pieces = np.array(ids[: available * piece], np.int32).reshape(available, piece)[chosen]
    starts = np.full((samples, len(bos)), bos[0] if bos else 0, np.int32)
    return np.concatenate([starts, pieces], axis=1)


@dataclass(frozen=True)
class _Batch:
    """Statistics of some sequences, by name."""

    sums: dict[str, Tensor]
    lows: dict[str, Tensor]
    highs: dict[str, Tensor]

    @classmethod
    def of(cls, trace: LayerTrace) -> "_Batch":
        sums: dict[str, Tensor] = {}
        highs: dict[str, Tensor] = {}
        for name, x in trace.inputs.items():
            rows = x.flatten(0, 1).float()
            magnitudes = rows.abs()
            sums[f"{name}.abs_mean"] = magnitudes.sum(0).double()
            sums[f"{name}.square_sum"] = rows.square().sum(0).double()
            highs[f"{name}.abs_max"] = magnitudes.amax(0)
        heads = {"key": trace.key, "value": trace.value}
        highs |= {f"{name}.max": values.amax((0, 2)) for name, values in heads.items()}
        lows = {name: values.amin((0, 2)) for name, values in heads.items()}
        return cls(sums, lows, highs)


class _Observer:
    """Running statistics of one layer: a collector of the stream."""

    def __init__(self, num_tokens: int) -> None:
        self._num_tokens = num_tokens
        self._sums: dict[str, Tensor] = {}
        self._lows: dict[str, Tensor] = {}
        self._highs: dict[str, Tensor] = {}

    def of(self, trace: LayerTrace) -> _Batch:
        """Statistics of a batch."""
        return _Batch.of(trace)

    def add(self, batch: _Batch) -> None:
        """Add a batch; sums depend on the order of the calls."""
        for name, values in batch.sums.items():
            self._sums[name] = self._sums[name] + values if name in self._sums else values
        for name, values in batch.lows.items():
            self._lows[name] = torch.minimum(self._lows.get(name, values), values)
        for name, values in batch.highs.items():
            self._highs[name] = torch.maximum(self._highs.get(name, values), values)

    def statistics(self, prefix: str) -> dict[str, Array]:
        """The tensors, by their names in the artifact."""
        found = {name: total.float() for name, total in self._sums.items()}
        for name, total in self._sums.items():
            if name.endswith(".abs_mean"):
                found[name] = (total / self._num_tokens).float()
        found |= {f"{name}.min": low for name, low in self._lows.items()}
        found |= self._highs
        return {f"{prefix}.{name}": found[name].numpy() for name in sorted(found)}


def _write(path: Path, num_layers: int, token_ids: NDArray[np.int32], stream: LayerStream) -> None:
    tensors = [LazyTensor.of(TOKEN_IDS, token_ids)]
    for index in range(num_layers):
        for entry in stream.entries(index).values():
            array = tensor_files.read(entry)
            tensors.append(LazyTensor.of(entry.name, array))
    tensor_files.write_safetensors(path, tensors)
