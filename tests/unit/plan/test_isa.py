from pathlib import Path

import pytest

from lmrun import _engine
from lmrun.artifacts.store import Store
from lmrun.cli import main
from lmrun.config import compose
from lmrun.errors import ExitStatus
from lmrun.plan.planner import make_plan

FORCED = ("avx2", "avx512", "amx")
MISSING = [isa for isa in FORCED if isa not in _engine.supported_isas()]


@pytest.mark.parametrize("isa", FORCED)
def test_an_isa_that_the_machine_lacks_is_refused_by_name(isa: str, tmp_path: Path) -> None:
    refusals = make_plan(compose([f"backend.isa={isa}"]), Store(tmp_path)).refusals
    if isa not in MISSING:
        assert refusals == ()
        return
    (refusal,) = refusals
    assert refusal.startswith(f"backend.isa={isa} (command line): this machine lacks ")
    assert refusal.endswith(f" or {_engine.supported_isas()[0]}.")


def test_forcing_one_that_is_missing_ends_with_status_4_before_anything_runs(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for isa in MISSING:
        assert main.run(["build", f"backend.isa={isa}"]) is ExitStatus.REFUSED
        assert f"backend.isa={isa} (command line): this machine lacks " in capfd.readouterr().err


def test_a_plan_for_a_described_machine_does_not_ask_this_one(tmp_path: Path) -> None:
    plan = make_plan(compose(["device=t4", "backend.isa=amx"]), Store(tmp_path))
    assert not any("lacks" in text for text in plan.refusals)
