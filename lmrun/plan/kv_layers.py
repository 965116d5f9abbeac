"""Bits of the KV cache layer by layer: which layers `kv.keep` and `kv.keep_layers` keep at more."""

from collections.abc import Collection
from pathlib import Path

from lmrun.artifacts.store import Store
from lmrun.config.schema import KvConfig
from lmrun.plan.plan import StagePlan
from lmrun.plan.stage_specs import CALIBRATE

CALIBRATION_FILE = "calibration.safetensors"
"""Of the artifact of calibrate, which holds the expected errors of each layer."""


def num_kept(kv: KvConfig) -> int:
    """How many layers have `kv.keep_bits`."""
    return kv.keep or len(kv.keep_layers)


def kept_layers(kv: KvConfig, calibrate: Path | None) -> tuple[int, ...] | None:
    """The layers that are kept at `kv.keep_bits`, in the order of the model; None while the
    artifact of ``calibrate``, which tells the errors of each layer, is not there."""
    if not kv.keep:
        return tuple(sorted(kv.keep_layers))
    if calibrate is None:
        return None
    # it brings NumPy, which most plans do without
    from lmrun.quant import kv as errors  # noqa: PLC0415

    found = errors.read_errors(calibrate / CALIBRATION_FILE)[kv.bits]
    return errors.worst_layers(found, kv.keep)


def layer_bits(kv: KvConfig, kept: Collection[int], num_layers: int) -> int | tuple[int, ...]:
    """Of all layers where they are equal, else of each."""
    if not kept:
        return kv.bits
    return tuple(kv.keep_bits if layer in kept else kv.bits for layer in range(num_layers))


def calibration_folder(stages: Collection[StagePlan], store: Store) -> Path | None:
    """The artifact of calibrate, where it is in the store."""
    stage = next((stage for stage in stages if stage.name == CALIBRATE.name), None)
    if stage is None or stage.fingerprint is None:
        return None
    found = store.find(stage.name, stage.fingerprint)
    return None if found is None else found.path


def note(kv: KvConfig, kept: Collection[int] | None) -> tuple[str, ...]:
    """What a person should know of the layers that are kept; empty where none is."""
    if not num_kept(kv):
        return ()
    what = f"kv.keep={kv.keep}" if kv.keep else "kv.keep_layers"
    if kept is None:
        return (
            f"{what}: the layers kept at {kv.keep_bits} bits are chosen after calibrate, by their"
            f" expected error at {kv.bits} bits",
        )
    names = ", ".join(str(layer) for layer in sorted(kept))
    return (f"{what}: {kv.keep_bits} bits in layers {names}, {kv.bits} bits in the others",)
