"""Tasks in threads: results in order, few at a time, errors where they belong."""

import threading
import time

import pytest
import torch

from lmrun.stages.workers import Workers


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(threads: int) -> None:
    def late_first(task: int) -> int:
        time.sleep(0.02 if task % 3 == 0 else 0)
        return task * task

    assert list(Workers(threads).map(late_first, range(9))) == [n * n for n in range(9)]


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_tasks_are_begun_than_threads_and_results_taken(threads: int) -> None:
    begun: list[int] = []
    results = Workers(threads).map(lambda task: begun.append(task) or task, range(20))
    for taken, _ in enumerate(results, start=1):
        assert len(begun) <= taken + threads


def test_an_error_comes_in_its_turn_and_nothing_follows() -> None:
    begun = []

    def fails_at_two(task: int) -> int:
        begun.append(task)
        if task == 2:
            raise ValueError("two")
        return task

    seen = []
    with pytest.raises(ValueError, match=r"^two$"):
        for result in Workers(2).map(fails_at_two, range(50)):
            seen.append(result)
    assert seen == [0, 1]
    assert len(begun) <= 5
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


def test_workers_compute_without_gradients_as_the_stage_does() -> None:
    weight = torch.ones(2, requires_grad=True)
    results = list(Workers(2).map(lambda task: weight * task, range(3)))
    assert not any(result.requires_grad for result in results)
