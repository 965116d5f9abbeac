"""What calibrate finds in a layer: magnitudes of inputs, ranges of keys and values, KV errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmrun.models.spec import ModelSpec
from lmrun.quant import kv
from lmrun.stages import decoder
from lmrun.stages.collectors import InputMagnitudes
from lmrun.stages.decoder import LayerTrace, LayerWeights, RotaryTables
from lmrun.stages.tensor_files import Array


@dataclass(frozen=True)
class _Batch:
    """Of some sequences."""

    low: Mapping[str, Tensor]
    """`key` and `value` → float32 [kv_heads, head_dim]."""
    high: Mapping[str, Tensor]
    wrong: Tensor
    """float64 [bits, 3]: squared errors, as `kv.BITS` and `kv.PARTS`."""
    energy: Tensor
    """float64 [3]: squares of what they are errors of."""


class CacheStatistics:
    """Ranges of keys and values, and what rounding them costs: a collector of the stream."""

    reads_output = True

    def __init__(self, spec: ModelSpec, weights: LayerWeights, rotary: RotaryTables) -> None:
        self._spec, self._weights, self._rotary = spec, weights, rotary
        self._low: dict[str, Tensor] = {}
        self._high: dict[str, Tensor] = {}
        self._wrong = _on_cpu([[0.0] * len(kv.PARTS)] * len(kv.BITS))
        self._energy = _on_cpu([0.0] * len(kv.PARTS))

    def of(self, trace: LayerTrace) -> _Batch:
        """Of a batch."""
        heads = {"key": trace.key.float(), "value": trace.value.float()}
        query = _query(self._spec, self._weights, self._rotary, trace)
        assert trace.hidden is not None
        exact = [*heads.values(), trace.hidden]
        context = trace.inputs["o"].float()
        wrong = []
        for bits in kv.BITS:
            cached = [_rounded(one, bits) for one in heads.values()]
            missing = self._attend(query, cached[0], cached[1]) - context
            written = F.linear(missing, self._weights.linears["o_proj"])
            differences = [one - other for one, other in zip(exact[:2], cached, strict=True)]
            wrong.append([_energy(one) for one in (*differences, written)])
        return _Batch(
            {name: values.amin((0, 2)) for name, values in heads.items()},
            {name: values.amax((0, 2)) for name, values in heads.items()},
            _on_cpu(wrong),
            _on_cpu([_energy(one) for one in exact]),
        )

    def add(self, found: _Batch) -> None:
        """In the order of the batches, of which sums depend."""
        for name, low in found.low.items():
            self._low[name] = torch.minimum(self._low.get(name, low), low)
            high = found.high[name]
            self._high[name] = torch.maximum(self._high.get(name, high), high)
        self._wrong += found.wrong
        self._energy += found.energy

    def tensors(self) -> dict[str, Array]:
        """The tensors of the artifact, by name."""
        prefix = f"layers.{self._weights.index}"
        found: dict[str, Array] = {}
        for name in self._low:
            found[f"{prefix}.{name}.max"] = self._high[name].cpu().numpy()
            found[f"{prefix}.{name}.min"] = self._low[name].cpu().numpy()
        for bits, wrong in zip(kv.BITS, self._wrong, strict=True):
            shares = torch.where(self._energy > 0, wrong / self._energy, 0.0)
            found[kv.tensor_name(self._weights.index, bits)] = shares.float().numpy()
        return found

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[batch, tokens, heads · head_dim], as `decoder.run_layer` has it."""
        context = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=self._spec.attention_scale, enable_gqa=True
        )
        return context.transpose(1, 2).flatten(2)


def input_tensors(layer: int, found: Mapping[str, InputMagnitudes]) -> dict[str, Array]:
    """The tensors of the artifact for the inputs of a layer's linears, by name."""
    tensors: dict[str, Array] = {}
    for name, one in found.items():
        prefix = f"layers.{layer}.{name}"
        tensors[f"{prefix}.abs_max"] = one.abs_max.cpu().numpy()
        tensors[f"{prefix}.abs_mean"] = one.abs_mean.cpu().numpy()
        tensors[f"{prefix}.square_sum"] = one.square_sum.cpu().numpy()
    return tensors


def _query(
    spec: ModelSpec, weights: LayerWeights, rotary: RotaryTables, trace: LayerTrace
) -> Tensor:
    """Queries after RoPE, which a trace does not keep, in float32."""
    x = trace.inputs["qkv"].float()
    projected = F.linear(x, weights.linears["q_proj"], weights.biases.get("q_proj"))
    query = projected.view(*x.shape[:-1], -1, spec.head_dim).transpose(1, 2)
    if spec.qk_norm:
        query = decoder.rms_norm(query, weights.norms["q_norm"], spec.rms_norm_eps)
    return rotary.rotate(query)


def _rounded(heads: Tensor, bits: int) -> Tensor:
    found = kv.rounded(np.ascontiguousarray(heads.cpu().numpy()), bits)
    return torch.from_numpy(found).to(heads.device)


def _on_cpu(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _energy(x: Tensor) -> float:
    return float(x.double().square().sum())
