"""What else could hold the weights: 4-bit codes, or more ranks."""

from collections.abc import Iterator
from dataclasses import replace

from lmrun.config.schema import RunConfig
from lmrun.plan.budget import Demand
from lmrun.plan.fitting import Alternative
from lmrun.plan.machine import Machine
from lmrun.plan.parallel import indivisible
from lmrun.plan.weights import Storage, weigh
from lmrun.quant.layout import CPU, WeightQuant

DEGREES = (2, 4, 8)


def alternatives(
    wanted: Demand, storage: Storage, machine: Machine, run: RunConfig, *, can_quantize: bool
) -> tuple[Alternative, ...]:
    """More ranks, the fewest that fit (or the most there could be), and 4-bit codes."""
    ranks = list(_ranks(wanted, storage, machine, run))
    fitting = [other for other in ranks if other.wanted.fits(other.total_bytes)]
    nearest = fitting[:1] or ranks[-1:]
    return (*nearest, *_codes(wanted, storage, machine, can_quantize))


def _ranks(
    wanted: Demand, storage: Storage, machine: Machine, run: RunConfig
) -> Iterator[Alternative]:
    if machine.kind == CPU:
        return  # ranks share the memory of the machine
    for tp in DEGREES:
        if tp <= storage.tp or indivisible(wanted.spec, storage.quant, tp) is not None:
            continue
        devices = tp * run.parallel.replicas
        weights = weigh(wanted.spec, replace(storage, tp=tp))
        change = f"parallel.tp={tp}"
        if devices > machine.count:
            change += f" device.count={devices}"
        yield Alternative(change, replace(wanted, weights=weights, tp=tp), machine.memory_bytes)


def _codes(
    wanted: Demand, storage: Storage, machine: Machine, can_quantize: bool
) -> Iterator[Alternative]:
    if can_quantize:
        codes = replace(storage, weight_dtype="F16", quant=WeightQuant("awq", 128))
        weights = weigh(wanted.spec, codes)
        total = machine.memory_bytes
        yield Alternative("quant=awq_w4_g128", replace(wanted, weights=weights), total)
