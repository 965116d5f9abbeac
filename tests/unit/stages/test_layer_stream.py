"""A stream of layers: what each layer reads and gives, wherever hidden states wait."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lmrun.models.checkpoint import Checkpoint
from lmrun.stages import decoder
from lmrun.stages.collectors import SecondMoments
from lmrun.stages.decoder import LayerWeights, RotaryTables
from lmrun.stages.layer_source import CheckpointSource
from lmrun.stages.layer_stream import LayerStream, Propagate, StreamSettings
from lmrun.stages.workers import Workers

Write = Callable[..., Path]
PLENTY = 1 << 30
SEQUENCES, TOKENS = 10, 12
IDS = torch.randint(3, 280, (SEQUENCES, TOKENS), generator=torch.Generator().manual_seed(0))
SETTINGS = StreamSettings(activation_memory=PLENTY, batch_size=3)
Seen = dict[int, torch.Tensor]


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


def _source(write_checkpoint: Write) -> CheckpointSource:
    return CheckpointSource(Checkpoint.open(write_checkpoint()))


def _halved(weights: LayerWeights) -> LayerWeights:
    """What stands for a quantized layer."""
    return replace(weights, linears={role: one / 2 for role, one in weights.linears.items()})


def _expected(source: CheckpointSource, changed: bool) -> list[torch.Tensor]:
    """Input of every layer, and the last one's output."""
    rotary = RotaryTables.of(source.spec, TOKENS)
    found = [source.embed(IDS)]
    for index in range(source.spec.num_layers):
        weights = source.layer(index)
        weights = _halved(weights) if changed else weights
        found.append(decoder.run_layer(source.spec, weights, found[-1], rotary))
    return found


def _walk(source: CheckpointSource, settings: StreamSettings, resume: Path) -> tuple[Seen, Seen]:
    """Inputs and targets of every layer, as the stream gives them."""
    stream = LayerStream(source, IDS, replace(settings, keep_inputs=True), resume)
    inputs, targets = {}, {}
    for layer in stream.layers():
        weights = layer.weights
        layer.observe()
        inputs[layer.index] = layer.inputs(range(SEQUENCES))
        if settings.propagate is not Propagate.QUANTIZED:
            targets[layer.index] = layer.targets(range(SEQUENCES))
        layer.finish({"a": torch.ones(2).numpy()}, _halved(weights))
    assert not list(resume.glob("hidden-*"))
    assert not list(resume.glob("quantized-*"))
    return inputs, targets


@pytest.mark.parametrize("memory", [0, 60_000, PLENTY])
@pytest.mark.parametrize("propagate", list(Propagate))
def test_layers_read_what_those_before_gave(
    write_checkpoint: Write, tmp_path: Path, memory: int, propagate: Propagate
) -> None:
    source = _source(write_checkpoint)
    settings = replace(SETTINGS, activation_memory=memory, propagate=propagate)
    inputs, targets = _walk(source, settings, tmp_path / "resume")
    read = _expected(source, propagate is not Propagate.FLOAT)
    for index, found in inputs.items():
        torch.testing.assert_close(found, read[index])
    given = _expected(source, False)[1:]
    for index, found in targets.items():
        torch.testing.assert_close(found, given[index])
    assert len(inputs) == source.spec.num_layers


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_neither_memory_nor_workers_change_a_bit(
    write_checkpoint: Write, tmp_path: Path, compute: torch.dtype
) -> None:
    source = _source(write_checkpoint)
    settings = replace(SETTINGS, propagate=Propagate.BOTH, compute=compute)
    whole = _walk(source, settings, tmp_path / "whole")
    for memory, threads in ((0, 1), (60_000, 3)):
        other = replace(settings, activation_memory=memory, workers=Workers(threads))
        found = _walk(source, other, tmp_path / f"{memory}")
        for some, others in zip(whole, found, strict=True):
            assert all(torch.equal(some[index], others[index]) for index in some)


@pytest.mark.parametrize("propagate", list(Propagate))
@pytest.mark.parametrize("memory", [0, PLENTY])
def test_a_stream_goes_on_with_the_bits_it_left(
    write_checkpoint: Write, tmp_path: Path, memory: int, propagate: Propagate
) -> None:
    source = _source(write_checkpoint)
    settings = replace(SETTINGS, activation_memory=memory, propagate=propagate)

    def moments(stream: LayerStream, layers: int) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for layer, _ in zip(stream.layers(), range(layers), strict=False):
            collector = SecondMoments(Workers(2))
            weights = layer.weights
            layer.observe(collector)
            found += collector.result().values()
            layer.finish({"a": torch.ones(2).numpy()}, _halved(weights))
        return found

    whole = moments(LayerStream(source, IDS, settings, tmp_path / "whole"), 3)
    first = moments(LayerStream(source, IDS, settings, tmp_path / "parts"), 2)
    again = LayerStream(source, IDS, settings, tmp_path / "parts")
    assert again.num_done == 2
    parts = first + moments(again, 3)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_a_stream_without_a_text_gives_weights_alone(
    write_checkpoint: Write, tmp_path: Path
) -> None:
    stream = LayerStream(_source(write_checkpoint), None, SETTINGS, tmp_path / "resume")
    for layer in stream.layers():
        layer.finish({"q": layer.take_weights().linears["q_proj"].numpy()})
    assert stream.num_done == 3
    assert set(stream.entries(1)) == {"q"}


def test_bfloat16_products_stay_close_to_float32(write_checkpoint: Write, tmp_path: Path) -> None:
    source = _source(write_checkpoint)
    exact, _ = _walk(source, SETTINGS, tmp_path / "exact")
    close, _ = _walk(source, replace(SETTINGS, compute=torch.bfloat16), tmp_path / "close")
    for index, one in exact.items():
        assert close[index].dtype is torch.float32
        assert float((close[index] - one).norm() / one.norm()) < 0.02


def test_only_the_rows_of_the_embedding_that_are_asked_for_are_read(
    write_checkpoint: Write,
) -> None:
    source = _source(write_checkpoint)
    whole = source.outer("model.embed_tokens.weight")
    assert torch.equal(source.embed(IDS), whole[IDS])
