from dataclasses import asdict, replace
from typing import Any

import pytest

from lmrun.deploy import effective
from lmrun.engine.messages import EffectiveConfig
from lmrun.errors import EngineError
from lmrun.plan.engine_settings import EngineSettings

PLANNED = EngineSettings(
    workspace="/w",
    isa="auto",
    threads=2,
    num_blocks=100,
    block_size=64,
    kv_bits=4,
    activation_bits=16,
    max_num_seqs=8,
    max_batch_tokens=256,
    context_length=2048,
    prefix_caching=True,
)


def in_force(**changes: Any) -> EffectiveConfig:
    """What an engine reports that took the plan with these changes; None leaves a key out."""
    chosen = {"isa": "avx512", "weight_memory": "mapped"}
    settings = {**asdict(PLANNED), **chosen, **changes}
    kept = {name: value for name, value in settings.items() if value is not None}
    return EffectiveConfig(settings=kept, engine_build="test")


def test_the_planned_settings_pass_and_auto_may_become_any_isa_and_memory() -> None:
    effective.check(PLANNED, in_force())


def test_clamped_and_lost_settings_fail_naming_each_key() -> None:
    with pytest.raises(EngineError) as caught:
        effective.check(PLANNED, in_force(num_blocks=90, prefix_caching=None))
    assert str(caught.value) == (
        "engine settings: num_blocks=100 was planned, num_blocks=90 is in force;"
        " prefix_caching=True was planned, the engine does not know it."
        " The deployment is not what was planned."
    )
    assert caught.value.status == 5


def test_a_forced_isa_must_be_the_one_in_force() -> None:
    with pytest.raises(EngineError, match="isa=generic was planned, isa=avx512 is in force"):
        effective.check(replace(PLANNED, isa="generic"), in_force())


def test_a_forced_place_of_weights_must_be_the_one_in_force() -> None:
    wanted = "weight_memory=huge_pages was planned, weight_memory=mapped is in force"
    with pytest.raises(EngineError, match=wanted):
        effective.check(replace(PLANNED, weight_memory="huge_pages"), in_force())
