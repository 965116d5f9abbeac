"""The Pareto front: points that no other point beats in everything."""

from collections.abc import Mapping, Sequence

from lmrun.sweep.figures import Figure


def dominates(
    one: Mapping[str, float], other: Mapping[str, float], figures: Sequence[Figure]
) -> bool:
    """Whether ``one`` is nowhere worse than ``other``, and better somewhere.

    Both have every figure. Equal points do not dominate each other: they share the front.
    """
    if any(figure.is_better(other[figure.name], one[figure.name]) for figure in figures):
        return False
    return any(figure.is_better(one[figure.name], other[figure.name]) for figure in figures)


def dominated_by(
    points: Sequence[Mapping[str, float]], figures: Sequence[Figure]
) -> list[int | None]:
    """For each point, the index of one on the front that dominates it; None: it is on the front.

    Of several that dominate it, the first. Every point has every figure; without figures every
    point is on the front.
    """
    on_front = [not any(dominates(other, point, figures) for other in points) for point in points]
    return [
        None
        if on_front[index]
        else next(
            rank
            for rank, other in enumerate(points)
            if on_front[rank] and dominates(other, point, figures)
        )
        for index, point in enumerate(points)
    ]
