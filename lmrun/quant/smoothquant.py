"""SmoothQuant: input channels made even, so that a token's activations fit int8. Arrays in, out.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models", arXiv 2211.10438. Each input channel is divided by s = max|x|^α / max|w|^(1−α), the weights
multiplied by it, and the division folded into what feeds the linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmrun.quant import rtn
from lmrun.quant.weight import Scheme

ALPHAS = tuple(step / 20 for step in range(21))
ACTIVATION_TOP = 127
"""Largest int8 of an activation: a token's scale is its largest magnitude over this."""


@dataclass(frozen=True)
class Smoothing:
    """What the search for alpha found."""

    alpha: float | None
    """None: the channels as they are round with less error than with any alpha."""
    scales: Tensor
    """float32 [K]: the weights' columns are multiplied by it, what feeds them is divided."""
    relative_error: float
    """Output error over output energy on the tokens looked at."""


def round_activations(x: Tensor) -> Tensor:
    """What tokens [..., K] become in int8, each with its own scale: absolute maximum / 127."""
    scale = x.abs().amax(-1, keepdim=True).clamp_(min=1e-12).div_(ACTIVATION_TOP)
    return (x / scale).round_().mul_(scale)


def scales(
    weights: Sequence[Tensor], abs_max: Tensor, alpha: float, share: Tensor | None = None
) -> Tensor:
    """Scale of each input channel [K] for linears [N, K] that share their input.

    ``abs_max`` (float32 [K]) is the largest |x| of each channel. ``share`` (int64 [K]) puts
    channels in classes that must have one scale (query heads that read one value head): the
    largest of a class stands for all. A channel or a column of zeros gets a finite scale.
    """
    largest = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
    if share is not None:
        largest, abs_max = _class_maximum(largest, share), _class_maximum(abs_max, share)
    found = abs_max.clamp(min=1e-5) ** alpha / largest.clamp(min=1e-5) ** (1 - alpha)
    return found.clamp_(min=1e-5)


def _class_maximum(values: Tensor, share: Tensor) -> Tensor:
    largest = torch.zeros(int(share.max()) + 1, device=values.device)
    return largest.scatter_reduce_(0, share, values, "amax")[share]


def search_alpha(
    weights: Sequence[Tensor],
    sample: Tensor,
    abs_max: Tensor,
    scheme: Scheme,
    share: Tensor | None = None,
) -> Smoothing:
    """The alpha of `ALPHAS`, or none, with the least output error over tokens ``sample`` [T, K].

    The error is that of the linears' outputs with weights and activations both rounded as the
    engine rounds them (`round_activations`). A few hundred tokens, spread over the text, do.
    """
    weight = torch.cat(list(weights))
    wanted = sample @ weight.T
    energy = float(wanted.square().sum().double()) or 1.0
    best: Smoothing | None = None
    ones = torch.ones_like(abs_max)
    for alpha in (None, *ALPHAS):
        found = ones if alpha is None else scales(weights, abs_max, alpha, share)
        rounded = rtn.quantize(weight * found, scheme).dequantize()
        outputs = torch.addmm(wanted, round_activations(sample / found), rounded.T, beta=-1)
        error = float(outputs.square_().sum().double()) / energy
        if best is None or error < best.relative_error:
            best = Smoothing(alpha, found, error)
    assert best is not None
    return best
