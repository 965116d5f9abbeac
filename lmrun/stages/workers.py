"""Coarse parallelism for stages that compute: whole tasks in threads, not parts of an operation.

Inside a worker torch computes with as many math threads as outside: one (`runner` sees to it).
Threads that share each small operation wait for each other hundreds of times a second; on a busy
machine that waiting took four times the work itself (88 CPU-seconds instead of 22 for the default
build, two busy cores). Results come in the order of the tasks, so sums do not depend on which
thread was faster, nor on how many there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """How many tasks may run at once."""

    threads: int = 1

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in the order of the tasks; no more than ``threads`` are held at a time.

        The first exception of a task is raised when its turn comes; no further task is begun.
        """

        def work(task: Task) -> Result:
            with torch.no_grad():
                return function(task)

        if self.threads == 1:
            yield from map(work, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        one_thread = partial(torch.set_num_threads, torch.get_num_threads())
        with ThreadPoolExecutor(self.threads, initializer=one_thread) as pool:
            for task in tasks:
                if len(waiting) == self.threads:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, task))
            while waiting:
                yield waiting.popleft().result()
