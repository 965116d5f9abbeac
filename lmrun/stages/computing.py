"""Where and in which arithmetic a stage computes over a text: what its plan says, as a stream has
it."""

import ctypes
import resource
import sys

import torch

from lmrun.engine.process import rss
from lmrun.models.spec import ModelSpec
from lmrun.plan.machine import this_machine
from lmrun.plan.sizes import parse_bytes
from lmrun.quant.layout import CUDA
from lmrun.stages.context import StageContext
from lmrun.stages.layer_stream import StreamSettings
from lmrun.stages.workers import Workers

SMALL_LAYER = 4_000_000
"""Weights of a layer up to which products are in float32: they take no time."""
AUTO_SHARE = 4
"""`quant.activation_memory=auto` is the memory of the machine, or of the GPU, over this."""


def stream_settings(context: StageContext, spec: ModelSpec) -> StreamSettings:
    """Those that every stage over a text has; the caller says what it propagates and keeps."""
    device = compute_device(context)
    return StreamSettings(
        activation_memory=activation_memory(context, device),
        name=context.stage.name,
        device=device,
        compute=compute_type(context, spec),
        workers=Workers(1 if device.type == CUDA else context.threads),
        batch_size=context.plan.config["calibration"]["batch_size"],
    )


def compute_device(context: StageContext) -> torch.device:
    """That of the stage's numeric class."""
    numeric_class = context.stage.numeric_class or {}
    return torch.device(CUDA if numeric_class.get("device") == CUDA else "cpu")


def compute_type(context: StageContext, spec: ModelSpec) -> torch.dtype:
    """bfloat16 where the numeric class has it in hardware, float32 for small layers and elsewhere.

    The class decides, not the machine: every CPU of AMD with AVX-512 has AVX512-BF16; of Intel's
    those with AMX do.
    """
    found = context.stage.numeric_class or {}
    isa, vendor = found.get("isa"), found.get("vendor")
    has_bfloat16 = (
        found.get("device") == CUDA
        or isa == "amx"
        or (isa == "avx512" and vendor == "AuthenticAMD")
    )
    weights = sum(linear.in_features * linear.out_features for linear in spec.layer(0))
    return torch.bfloat16 if has_bfloat16 and weights > SMALL_LAYER else torch.float32


def activation_memory(context: StageContext, device: torch.device) -> int:
    """`quant.activation_memory` in bytes."""
    asked = str(context.plan.config["quant"]["activation_memory"])
    if asked != "auto":
        return parse_bytes(asked, "quant.activation_memory")
    if device.type == CUDA:
        return int(torch.cuda.mem_get_info(device)[1]) // AUTO_SHARE
    return this_machine().memory_bytes // AUTO_SHARE


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far.

    Not `ru_maxrss` where /proc is there: a child begins with that of the process it was forked of.
    """
    if found := rss().peak:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_memory() -> None:
    """Have glibc give back what was freed and is kept (`runner`): between the steps of a layer,
    which need other sizes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
