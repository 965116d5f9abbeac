"""Figures of a lock against those of today."""

import dataclasses

from lmrun.plan.drift import quality_drift
from unit.plan.test_lock import LOCK

FIGURES = {"ppl": 6.12345679, "kl": 0.001, "top1": 0.4}
LOCKED = dataclasses.replace(LOCK, quality={"figures": FIGURES, "gates": {}})


def moved(tolerance: float = 0.005, **figures: float) -> list[str]:
    """Names of the figures that drifted."""
    return [one.name for one in quality_drift(LOCKED, {**FIGURES, **figures}, tolerance)]


def test_perplexity_moves_by_its_share_and_a_share_by_its_difference() -> None:
    assert moved(ppl=FIGURES["ppl"] * 1.004) == []
    assert moved(ppl=FIGURES["ppl"] * 1.006) == ["ppl"]
    assert moved(top1=0.4046) == []
    assert moved(top1=0.4054) == ["top1"]


def test_a_small_divergence_moves_by_a_share_of_a_hundredth_of_a_nat() -> None:
    assert moved(kl=0.00104) == []
    assert moved(kl=0.00106) == ["kl"]


def test_a_figure_that_is_gone_is_drift() -> None:
    assert [one.name for one in quality_drift(LOCKED, {"ppl": FIGURES["ppl"]}, 1)] == ["kl", "top1"]


def test_without_any_tolerance_what_a_lock_rounds_away_is_no_drift() -> None:
    assert moved(tolerance=0, ppl=6.1234567891234) == []
    assert moved(tolerance=0, ppl=6.1234569) == ["ppl"]
