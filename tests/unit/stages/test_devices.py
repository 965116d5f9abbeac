"""Every tensor is made on the device of the stream.

There is no GPU here. So the device that torch takes where none is named is `meta`, whose tensors
hold nothing: one that meets the weights or the text fails, as it would on a GPU.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lmrun.models.checkpoint import Checkpoint
from lmrun.quant.formats import registry
from lmrun.quant.weight import Scheme
from lmrun.stages import calibrate, prune, quantize
from lmrun.stages.calibration_statistics import CacheStatistics
from lmrun.stages.collectors import Magnitudes
from lmrun.stages.layer_source import CheckpointSource
from lmrun.stages.layer_stream import LayerStream, Propagate, StreamLayer, StreamSettings
from lmrun.stages.methods import METHODS
from lmrun.stages.quantize_job import Job
from lmrun.stages.quantizing import QuantSettings

Write = Callable[..., Path]
IDS = torch.randint(3, 280, (34, 16), generator=torch.Generator().manual_seed(0))
SETTINGS = StreamSettings(activation_memory=1 << 26, propagate=Propagate.QUANTIZED)
SCHEMES = {
    "groups": Scheme(4, 32),
    "symmetric": Scheme(4, 32, symmetric=True),
    "rows": Scheme(8, 0, symmetric=True),
}


@pytest.fixture
def source(write_checkpoint: Write) -> CheckpointSource:
    return CheckpointSource(Checkpoint.open(write_checkpoint()))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _first(stream: LayerStream) -> StreamLayer:
    return next(stream.layers())


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("method", sorted(METHODS))
def test_quantizing_a_layer(
    source: CheckpointSource, tmp_path: Path, method: str, scheme: str
) -> None:
    chosen = SCHEMES[scheme]
    settings = QuantSettings(method, chosen, mse=True)
    needs = METHODS[method].needs(settings)
    form = registry.choose(
        "compressed_tensors", chosen.bits, chosen.group_size, symmetric=chosen.symmetric
    )
    stream_settings = StreamSettings(
        SETTINGS.activation_memory,
        compute=torch.bfloat16,
        propagate=needs.propagate,
        keep_inputs=needs.keep_inputs,
    )
    stream = LayerStream(source, IDS, stream_settings, tmp_path / "resume")
    layer = _first(stream)
    job = Job(
        source.checkpoint, source, settings, form, METHODS[method], needs, IDS, stream_settings, {}
    )
    with torch.device("meta"):
        quantize.quantize_layer(job, layer)
    assert stream.num_done == 1


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_pruning_a_layer(
    source: CheckpointSource, tmp_path: Path, method: str, pattern: str
) -> None:
    ids = None if method == "magnitude" else IDS
    stream = LayerStream(source, ids, SETTINGS, tmp_path / "resume")
    layer = _first(stream)
    job = prune.Job(source.checkpoint, source, method, 0.5, pattern, ids, SETTINGS)
    with torch.device("meta"):
        prune.prune_layer(job, layer)
    assert stream.num_done == 1


def test_statistics_of_a_layer(source: CheckpointSource, tmp_path: Path) -> None:
    settings = StreamSettings(SETTINGS.activation_memory)
    stream = LayerStream(source, IDS, settings, tmp_path / "resume")
    layer = _first(stream)
    with torch.device("meta"):
        magnitudes = Magnitudes()
        cache = CacheStatistics(source.spec, layer.weights, stream.rotary)
        layer.observe(magnitudes, cache)
        layer.finish(calibrate.input_tensors(0, magnitudes.result()) | cache.tensors())
    assert stream.num_done == 1
