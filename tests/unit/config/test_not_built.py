"""Legal choices whose feature does not exist yet."""

import pytest

from lmrun.config import compose
from lmrun.config.not_built import is_built, not_built

REFUSED = {
    "parallel.tp=2": "parallel.tp=2: not built yet; 1 is.",
    "parallel.replicas=2": "parallel.replicas=2: not built yet; 1 is.",
    "parallel.placement=ray_serve": "parallel.placement=ray_serve: not built yet; local is.",
    "backend.name=vllm": "backend.name=vllm: not built yet; native is.",
    "backend.rope_scaling=yarn": "backend.rope_scaling=yarn: not built yet; checkpoint is.",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_choice_that_is_not_built_is_named_with_what_is(override: str) -> None:
    run = compose([override]).run
    assert not_built(run) == (REFUSED[override],)
    assert not is_built(run)


def test_every_choice_that_is_not_built_is_named() -> None:
    run = compose(["parallel.tp=2", "backend.name=vllm"]).run
    assert not_built(run) == (REFUSED["backend.name=vllm"], REFUSED["parallel.tp=2"])
