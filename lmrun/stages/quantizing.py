"""What every way of quantizing a layer is given and gives back.

`layer_quantizer.METHODS` is the table of them; one is a `LayerMethod`: what it `needs` of the text,
and `quantize`, called once a layer with what was observed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from lmrun.models.spec import ModelSpec
from lmrun.quant.weight import QuantizedWeight, Scheme
from lmrun.stages.collectors import InputMagnitudes
from lmrun.stages.decoder import INPUTS, READERS, LayerWeights
from lmrun.stages.layer_stream import Propagate, StreamLayer
from lmrun.stages.workers import Workers

INPUT_OF = {role: name for name in INPUTS for role in READERS[name]}
"""Role of a linear → the input that it reads."""


@dataclass(frozen=True)
class QuantSettings:
    """The part of the recipe that decides about codes; what a method does not read it leaves."""

    method: str
    scheme: Scheme
    skip: frozenset[str] = frozenset()
    """Names of linears kept in 16 bits (`LinearSpec.name`)."""
    activation_bits: int = 16
    mse: bool = False
    """Ranges are those of the least squared error of the weights."""
    act_order: bool = True
    damping: float = 0.01
    alpha: float | None = None
    preset: str = "light"
    is_rehearsal: bool = False
    """One iteration of whatever iterates."""

    def kept(self, spec: ModelSpec, layer: int) -> frozenset[str]:
        """Roles of a layer kept in 16 bits."""
        return frozenset(one.role for one in spec.layer(layer) if one.name in self.skip)

    def roles(self, spec: ModelSpec, layer: int) -> tuple[str, ...]:
        """Roles of a layer that become codes, in the order of `INPUTS`."""
        kept = self.kept(spec, layer)
        return tuple(role for role in INPUT_OF if role not in kept)


@dataclass(frozen=True)
class Needs:
    """What a method has to know of the text, and whose outputs its layers read."""

    moments: bool = False
    """`Observed.moments`."""
    magnitudes: bool = False
    sample_tokens: int = 0
    """Tokens in `Observed.samples`."""
    propagate: Propagate = Propagate.FLOAT
    keep_inputs: bool = False
    """`StreamLayer.inputs` and `targets` are used."""

    @property
    def is_blind(self) -> bool:
        """No text is needed at all."""
        return not (self.moments or self.magnitudes or self.sample_tokens or self.keep_inputs)


@dataclass(frozen=True)
class Observed:
    """What a layer's linears read, by `INPUTS`; empty where it was not needed.

    The tensors are the method's own: it may change them in place.
    """

    moments: dict[str, Tensor] = field(default_factory=dict)
    """float32 [K, K]: mean of x xᵀ over all tokens."""
    magnitudes: dict[str, InputMagnitudes] = field(default_factory=dict)
    samples: dict[str, Tensor] = field(default_factory=dict)
    """float32 [tokens, K], evenly spread over the text."""


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer after quantization."""

    codes: Mapping[str, QuantizedWeight]
    """Role → codes."""
    weights: LayerWeights
    """Biases and norms with the scales folded in, and the linears kept in 16 bits."""
    report: Mapping[str, Mapping[str, object]]
    """Role → its row of `report.json` (`quantize_report.role_row`)."""

    def replaced(self) -> LayerWeights:
        """The layer as its codes say, float32: what `StreamLayer.finish` is given."""
        linears = dict(self.weights.linears)
        linears |= {role: codes.dequantize() for role, codes in self.codes.items()}
        return LayerWeights(self.weights.index, linears, self.weights.biases, self.weights.norms)


@dataclass(frozen=True)
class LayerTask:
    """One layer to quantize."""

    spec: ModelSpec
    layer: StreamLayer
    """Its `weights` are taken by the method (`StreamLayer.take_weights`)."""
    observed: Observed
    settings: QuantSettings
    workers: Workers

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that become codes."""
        return self.settings.roles(self.spec, self.layer.index)


class LayerMethod(Protocol):
    """A way of quantizing a layer."""

    def needs(self, settings: QuantSettings) -> Needs:
        """What of the text it asks for."""
        ...

    def quantize(self, task: LayerTask) -> QuantizedLayer:
        """Codes of the layer. NaN, infinity and what an algorithm refuses raise `StageError` with
        the names of layer and linear."""
        ...
