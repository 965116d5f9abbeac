"""The front: what no other point beats."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from lmrun.sweep.figures import FIGURES, Figure
from lmrun.sweep.pareto import dominated_by, dominates

BY_NAME = {figure.name: figure for figure in FIGURES}
MEMORY, SPEED = BY_NAME["memory_gib"], BY_NAME["tokens_per_s"]
BOTH = (MEMORY, SPEED)


def point(memory: float, speed: float) -> dict[str, float]:
    return {"memory_gib": memory, "tokens_per_s": speed}


def test_less_memory_and_more_tokens_win() -> None:
    assert dominates(point(1, 100), point(2, 50), BOTH)
    assert not dominates(point(2, 50), point(1, 100), BOTH)
    assert not dominates(point(1, 50), point(2, 100), BOTH)


def test_equal_in_one_and_better_in_the_other_is_enough() -> None:
    assert dominates(point(1, 100), point(1, 50), BOTH)
    assert dominates(point(1, 100), point(2, 100), BOTH)


def test_equal_points_share_the_front() -> None:
    points = [point(1, 100), point(1, 100), point(2, 100)]
    assert dominated_by(points, BOTH) == [None, None, 0]


def test_the_point_that_beats_another_is_itself_on_the_front() -> None:
    points = [point(3, 10), point(2, 20), point(1, 30)]
    assert dominated_by(points, BOTH) == [2, 2, None]


def test_without_figures_nothing_is_beaten() -> None:
    assert dominated_by([{}, {}], ()) == [None, None]
    assert dominated_by([], BOTH) == []


@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12),
    st.permutations([MEMORY, SPEED, BY_NAME["ttft_ms"]]),
)
def test_the_front_is_what_its_definition_says(
    values: list[tuple[int, ...]], figures: list[Figure]
) -> None:
    points = [
        {figure.name: float(value) for figure, value in zip(figures, row, strict=True)}
        for row in values
    ]
    rivals = dominated_by(points, figures)
    front = {index for index, rival in enumerate(rivals) if rival is None}
    assert bool(front) == bool(points)
    for one, other in itertools.permutations(range(len(points)), 2):
        if one in front:
            assert not dominates(points[other], points[one], figures)
    for index, rival in enumerate(rivals):
        if rival is not None:
            assert rival in front
            assert dominates(points[rival], points[index], figures)
