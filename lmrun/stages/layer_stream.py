"""Walks a model's layers over a calibration text, one layer in memory at a time.

    stream = LayerStream(source, token_ids, settings, context.resume)
    for layer in stream.layers():                  # those that no earlier attempt finished
        layer.observe(Magnitudes(), moments)       # one pass over every sequence
        ...                                        # codes from layer.weights and what was observed
        layer.finish(tensors, replaced)            # checkpoint; on to the next layer
    stream.entries(index)                          # the tensors that finish() was given

calibrate, prune and quantize go through it. Everything computes on `StreamSettings.device`, in
`StreamSettings.compute` for the matrices, float32 for the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lmrun import log
from lmrun.models.safetensors_header import TensorEntry
from lmrun.models.spec import ModelSpec
from lmrun.stages import decoder
from lmrun.stages.decoder import LayerTrace, LayerWeights, Multiply, RotaryTables
from lmrun.stages.hidden_states import HiddenStates, HiddenWriter, Shape
from lmrun.stages.layer_checkpoints import LayerCheckpoints
from lmrun.stages.layer_source import LayerSource
from lmrun.stages.tensor_files import Array
from lmrun.stages.workers import Workers

BATCH_TOKENS = 2048
"""Tokens in one forward pass (one sequence where that is longer). Sums are in the order of the
batches, so this is part of what decides the bytes; the number of workers is not."""

CPU = torch.device("cpu")
ONE_WORKER = Workers()
FLOAT_FILE, QUANTIZED_FILE = "hidden", "quantized"
"""Hidden states of the float model, and of replaced layers, among the checkpoints."""

_log = log.get(__name__)


class Propagate(StrEnum):
    """Whose output the next layer reads."""

    FLOAT = "float"
    """The float model's: one pass over the text a layer."""
    QUANTIZED = "quantized"
    """That of the layers as `finish` got them: a second pass a layer."""
    BOTH = "both"
    """Collectors and `inputs` see what replaced layers gave, `targets` are the float model's."""


@dataclass(frozen=True)
class StreamSettings:
    """How a stream computes. Only ``compute``, ``propagate``, the batch and the device change
    bytes."""

    activation_memory: int
    """Bytes for hidden states and the batches in work; what is more waits on the disk."""
    name: str = "quantize"
    """Of the stage, for messages."""
    device: torch.device = CPU
    compute: torch.dtype = torch.float32
    """Of the matrix products: float32 or bfloat16."""
    propagate: Propagate = Propagate.FLOAT
    keep_inputs: bool = False
    """`StreamLayer.inputs` and `targets` are asked for (costs room for a second set)."""
    workers: Workers = ONE_WORKER
    batch_size: int | None = None
    """Sequences in one forward pass; None: as many as make `BATCH_TOKENS`."""


class Collector(Protocol):
    """What is made of the traces of a layer's batches."""

    @property
    def reads_output(self) -> bool:
        """Whether `of` reads `LayerTrace.hidden`."""
        ...

    def of(self, trace: LayerTrace) -> Any:  # noqa: ANN401 - goes to `add` of the same collector
        """What is kept of one batch; called on several threads at once."""
        ...

    def add(self, found: Any) -> None:  # noqa: ANN401
        """Called with what `of` gave, in the order of the batches, on one thread."""
        ...


class StreamLayer:
    """One layer of a stream, valid until `finish`."""

    def __init__(
        self, stream: "LayerStream", weights: LayerWeights, paths: "_Paths | None"
    ) -> None:
        self._stream, self._paths = stream, paths
        self._next: _Paths | None = None
        self._is_observed = False
        self.weights = weights
        """Float32, on the device."""
        self.index = weights.index

    def take_weights(self) -> LayerWeights:
        """`weights` for the caller alone, who may drop a matrix when it is done with it."""
        taken = self.weights
        self.weights = LayerWeights(self.index, {}, {}, {})
        return LayerWeights(self.index, dict(taken.linears), dict(taken.biases), dict(taken.norms))

    @property
    def is_last(self) -> bool:
        """Whether no layer follows."""
        return self.index == self._stream.spec.num_layers - 1

    @property
    def compute(self) -> torch.dtype:
        """Of the matrix products."""
        return self._stream.settings.compute

    @property
    def num_sequences(self) -> int:
        """Of the text; there is one where `inputs` is asked for."""
        assert self._paths is not None
        return self._paths.read.shape[0]

    @property
    def num_tokens(self) -> int:
        """Of a sequence."""
        assert self._paths is not None
        return self._paths.read.shape[1]

    def observe(self, *collectors: Collector) -> None:
        """Run the float layer over every sequence, once; afterwards its output is known.

        NaN or infinity raises `StageError` with the layer's name.
        """
        assert self._paths is not None
        assert not self._is_observed, "a layer is observed once"
        self._is_observed = True
        stream, paths = self._stream, self._paths
        weights = self.weights.to(stream.settings.compute)
        keeps = stream.settings.keep_inputs
        if paths.float is None:
            stream.run(weights, paths.read, collectors, None)
            return
        output = None
        if keeps or not self.is_last:
            is_free = paths.quantized is not None or not keeps
            output = stream.writer(self.index + 1, FLOAT_FILE, paths.float, is_free)
        is_same = paths.quantized is None or self.index == 0  # nothing is replaced before layer 0
        stream.run(weights, paths.float, collectors if is_same else (), output)
        if paths.quantized is not None and not is_same:
            stream.run(weights, paths.quantized, collectors, None)
        if output is not None:
            self._next = _Paths(output.close(), None)

    def inputs(self, sequences: Sequence[int]) -> Tensor:
        """float32 [sequences, tokens, hidden]: what the layer reads (needs `keep_inputs`)."""
        assert self._paths is not None
        assert self._stream.settings.keep_inputs
        return self._paths.read.gather(list(sequences))

    def targets(self, sequences: Sequence[int]) -> Tensor:
        """float32 [sequences, tokens, hidden]: what the float layer of the float model gives;
        after `observe` (needs `keep_inputs`, and no `Propagate.QUANTIZED`)."""
        assert self._next is not None
        assert self._next.float is not None
        return self._next.float.gather(list(sequences))

    def forward(
        self, weights: LayerWeights, hidden: Tensor, multiply: Multiply | None = None
    ) -> Tensor:
        """Output of the layer with other weights, in the stream's arithmetic; differentiable where
        ``multiply`` is."""
        stream = self._stream
        weights = weights.to(stream.settings.compute)
        return decoder.run_layer(stream.spec, weights, hidden, stream.rotary, multiply)

    def finish(self, tensors: Mapping[str, Array], replaced: LayerWeights | None = None) -> None:
        """Keep the layer's tensors as its checkpoint and let the stream go on.

        ``replaced`` (float32, as the codes say) is needed unless `Propagate.FLOAT`.
        """
        stream, paths = self._stream, self._paths
        if paths is not None and paths.quantized is not None and not self.is_last:
            assert replaced is not None
            output = stream.writer(self.index + 1, QUANTIZED_FILE, paths.quantized, True)
            stream.run(replaced.to(stream.settings.compute), paths.quantized, (), output)
            after = self._next.float if self._next else None
            self._next = _Paths(after, output.close())
        stream.finished(self.index, tensors, self._next)


@dataclass(frozen=True)
class _Paths:
    """Hidden states between two layers: the float model's, and those of replaced layers."""

    float: HiddenStates | None
    quantized: HiddenStates | None

    @property
    def read(self) -> HiddenStates:
        """What the next layer's linears see."""
        found = self.quantized or self.float
        assert found is not None
        return found


class LayerStream:
    """A walk over the layers; ``token_ids`` [sequences, tokens] is None where no text is needed
    (then layers have `weights` and `finish` alone)."""

    def __init__(
        self,
        source: LayerSource,
        token_ids: Tensor | None,
        settings: StreamSettings,
        resume: Path,
    ) -> None:
        self.source, self.settings = source, settings
        self._token_ids = token_ids
        self._kept = LayerCheckpoints(resume)
        num_tokens = 0 if token_ids is None else token_ids.shape[1]
        self.rotary = RotaryTables.of(self.spec, num_tokens).to(settings.device)
        self._kinds: tuple[str, ...] = ()
        if token_ids is not None:
            self._kinds = {
                Propagate.FLOAT: (FLOAT_FILE,),
                Propagate.QUANTIZED: (QUANTIZED_FILE,),
                Propagate.BOTH: (FLOAT_FILE, QUANTIZED_FILE),
            }[settings.propagate]
        self._spare: Tensor | None = None
        self._paths: _Paths | None = None
        self.num_done = self._kept.num_done(self._kinds, self.spec.num_layers)
        """Layers that an earlier attempt finished."""

    @property
    def spec(self) -> ModelSpec:
        """The model as the source gives it."""
        return self.source.spec

    def layers(self) -> Iterator[StreamLayer]:
        """The layers that are not finished, in order; each must be finished before the next.

        Weights and what a layer computed are dropped with the layer: hold on to none of them.
        """
        done, total = self.num_done, self.spec.num_layers
        if done:
            _log.info("%s: %d of %d layers are finished", self.settings.name, done, total)
        if done < total and self._token_ids is not None:
            self._paths = self._first_paths(done)
        for index in range(done, total):
            weights = self.source.layer(index).to(device=self.settings.device)
            layer = StreamLayer(self, weights, self._paths)
            del weights
            yield layer
            assert self.num_done == index + 1, "finish() was called"

    def entries(self, index: int) -> dict[str, TensorEntry]:
        """The tensors of a finished layer."""
        return self._kept.entries(index)

    def run(
        self,
        weights: LayerWeights,
        hidden: HiddenStates,
        collectors: Sequence[Collector],
        output: HiddenWriter | None,
    ) -> None:
        """One pass of a layer (weights in the compute type) over all sequences."""
        size = self._batch_sequences(hidden.shape[1])
        starts = range(0, hidden.shape[0], size)
        at_once = self._batches_at_once(hidden.shape[1])
        has_output = output is not None or any(one.reads_output for one in collectors)

        def batch(start: int) -> tuple[Tensor | None, list[Any]]:
            rows = hidden.rows(start, min(start + size, hidden.shape[0]))
            trace = decoder.trace_layer(
                self.spec, weights, rows, self.rotary, has_output=has_output
            )
            return trace.hidden, [collector.of(trace) for collector in collectors]

        for first in range(0, len(starts), at_once):
            group = starts[first : first + at_once]
            for rows, found in list(self.settings.workers.map(batch, group)):
                if output is not None:
                    assert rows is not None
                    output.append(rows)
                for collector, one in zip(collectors, found, strict=True):
                    collector.add(one)

    def writer(self, index: int, kind: str, before: HiddenStates, in_place: bool) -> HiddenWriter:
        """Where the input of layer ``index`` goes: into the memory of ``before``, or other."""
        resident = before.resident
        if not in_place:
            resident = torch.empty_like(resident) if self._spare is None else self._spare
            self._spare = before.resident
        is_needed = index < self.spec.num_layers or len(resident) < before.shape[0]
        file = self._kept.hidden_file(index, kind) if is_needed else None
        return HiddenWriter(before.shape, resident, file)

    def finished(self, index: int, tensors: Mapping[str, Array], after: _Paths | None) -> None:
        """What `StreamLayer.finish` does at its end."""
        self._kept.save(index, tensors, self._kinds, is_last=index == self.spec.num_layers - 1)
        self.num_done = index + 1
        self._paths = after

    def _first_paths(self, index: int) -> _Paths:
        """The input of a layer: what an earlier attempt left, or the embedded text."""
        found = [self._first(index, kind) for kind in self._kinds]
        if self.settings.propagate is Propagate.BOTH:
            return _Paths(found[0], found[1])
        is_float = self.settings.propagate is Propagate.FLOAT
        return _Paths(found[0], None) if is_float else _Paths(None, found[0])

    def _first(self, index: int, kind: str) -> HiddenStates:
        assert self._token_ids is not None
        samples, tokens = self._token_ids.shape
        shape = (samples, tokens, self.spec.hidden_size)
        num_resident = self._num_resident(shape)
        file = self._kept.hidden_file(index, kind)
        if index > 0:
            return HiddenStates.open(file, num_resident, self.settings.device)
        resident = torch.empty((num_resident, *shape[1:]), device=self.settings.device)
        writer = HiddenWriter(shape, resident, file if num_resident < samples else None)
        size = self._batch_sequences(tokens)
        for start in range(0, samples, size):
            writer.append(self.source.embed(self._token_ids[start : start + size]))
        return writer.close()

    def _batch_sequences(self, tokens: int) -> int:
        return self.settings.batch_size or max(1, BATCH_TOKENS // tokens)

    def _batch_bytes(self, tokens: int) -> int:
        """Of the activations of one batch in work, generously."""
        spec = self.spec
        q_size, kv_size = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        features = 6 * spec.hidden_size + 3 * q_size + 4 * kv_size + 3 * spec.intermediate_size
        return features * tokens * self._batch_sequences(tokens) * 4

    def _batches_at_once(self, tokens: int) -> int:
        """As many as there are workers, and room for: half the budget."""
        room = self.settings.activation_memory // 2 // self._batch_bytes(tokens)
        return max(1, min(self.settings.workers.threads, room))

    def _num_resident(self, shape: Shape) -> int:
        """Sequences that fit the budget beside the batches in work."""
        batches = self._batch_bytes(shape[1]) * self._batches_at_once(shape[1])
        sets = len(self._kinds)
        if self.settings.keep_inputs and sets == 1:
            sets = 2
        room = max(0, self.settings.activation_memory - batches)
        return min(shape[0], room // (sets * shape[1] * shape[2] * 4))
