"""calibrate: which tokens are looked at, and what the float model sees of some of them.

Nothing here knows bits or groups of weights. The artifact is one file, `FILE_NAME`;
`lmrun/stages/README.md` lists its tensors.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.tokenizer import Tokenizer
from lmrun.progress import progress_bar
from lmrun.stages import calibration_data, tensor_files
from lmrun.stages.calibration_data import Chats
from lmrun.stages.calibration_statistics import CacheStatistics, input_tensors
from lmrun.stages.collectors import Magnitudes
from lmrun.stages.computing import stream_settings
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.layer_source import CheckpointSource
from lmrun.stages.layer_stream import LayerStream
from lmrun.stages.tensor_files import LazyTensor

FILE_NAME = "calibration.safetensors"
TOKEN_IDS = "token_ids"


@dataclass(frozen=True)
class Sequences:
    """The calibration text in tokens."""

    token_ids: NDArray[np.int32]
    """[samples, seq_len]."""
    record: dict[str, Any]
    """Where they are from, for the manifest."""
    fallbacks: tuple[str, ...]


def sequences(context: StageContext, checkpoint: Checkpoint) -> Sequences:
    """Those of `calibration.*`, which the stage must have declared."""
    samples = int(context.value("calibration.samples"))
    seq_len = int(context.value("calibration.seq_len"))
    seed = int(context.value("calibration.seed"))
    tokenizer = Tokenizer.from_folder(context.checkpoint)
    dataset = context.plan.calibration_dataset
    text = calibration_data.read_text(
        context.plan.calibration_text,
        samples * seq_len,
        field=None if dataset is None else dataset.field,
        chats=Chats(context.checkpoint, context.plan.chat_template, tokenizer.special_tokens),
        seed=seed,
    )
    token_ids = calibration_data.take_sequences(tokenizer, text, samples, seq_len, seed)
    if int(token_ids.max()) >= checkpoint.spec.vocab_size:
        raise StageError(
            f"{context.checkpoint}: expected token ids below {checkpoint.spec.vocab_size}, got"
            f" {int(token_ids.max())}. The tokenizer is not that of the model."
        )
    fallbacks: tuple[str, ...] = ()
    if tokenizer.bos_token_id is None:
        fallbacks = ("the tokenizer has no BOS token: sequences start without one",)
    return Sequences(token_ids, calibration_data.record(text, token_ids), fallbacks)


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with `FILE_NAME`."""
    checkpoint = Checkpoint.open(context.checkpoint)
    taken = sequences(context, checkpoint)
    token_ids = taken.token_ids
    count = int(context.value("calibration.statistics_samples"))
    observed = token_ids[calibration_data.evenly_spread(len(token_ids), count)]
    _observe(context, checkpoint, token_ids, observed)
    metrics = {
        "tokens": int(token_ids.size),
        "statistics_tokens": int(observed.size),
        "data": taken.record,
    }
    return StageResult(metrics=metrics, fallbacks=taken.fallbacks)


def _observe(
    context: StageContext,
    checkpoint: Checkpoint,
    token_ids: NDArray[np.int32],
    observed: NDArray[np.int32],
) -> None:
    """Run the model over the sequences whose statistics are stored; write the artifact."""
    stream = LayerStream(
        CheckpointSource(checkpoint),
        torch.from_numpy(observed),
        stream_settings(context, checkpoint.spec),
        context.resume,
    )
    num_layers = checkpoint.spec.num_layers
    with (
        torch.no_grad(),
        progress_bar("calibrate", num_layers, stream.num_done, unit="layers") as advance,
    ):
        for layer in stream.layers():
            magnitudes = Magnitudes()
            cache = CacheStatistics(checkpoint.spec, layer.weights, stream.rotary)
            layer.observe(magnitudes, cache)
            layer.finish(input_tensors(layer.index, magnitudes.result()) | cache.tensors())
            advance(1)
    _write(context.partial / FILE_NAME, num_layers, token_ids, stream)


def _write(path: Path, num_layers: int, token_ids: NDArray[np.int32], stream: LayerStream) -> None:
    tensors = [LazyTensor.of(TOKEN_IDS, token_ids)]
    for index in range(num_layers):
        for entry in stream.entries(index).values():
            array = tensor_files.read(entry)
            tensors.append(LazyTensor.of(entry.name, array))
    tensor_files.write_safetensors(path, tensors)
