"""What a stage is given and what it gives back."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmrun.artifacts.store import RESUME
from lmrun.plan.plan import Plan, StagePlan

Advance = Callable[[int], None]
"""Told how many more units are done."""


@dataclass(frozen=True)
class StageContext:
    """What a stage gets: its plan, its inputs, and the folder it fills."""

    plan: Plan
    stage: StagePlan
    model: Path | None
    """Folder of the checkpoint the recipe starts from; None where the stage reads none."""
    inputs: Mapping[str, Path]
    """Artifact folders of earlier stages, by stage name."""
    partial: Path
    """Becomes the artifact; may hold what a killed attempt left."""

    @property
    def checkpoint(self) -> Path:
        """`model`, for the stages that always have one."""
        assert self.model is not None
        return self.model

    @property
    def resume(self) -> Path:
        """Folder of the stage's own checkpoints, dropped when the artifact is committed."""
        return self.partial / RESUME

    @property
    def threads(self) -> int:
        """Tasks that may run at once: the threads of the numeric class, 1 where it has none."""
        return int((self.stage.numeric_class or {"threads": 1})["threads"])

    def value(self, key: str) -> Any:  # noqa: ANN401 - a configuration value of any type
        """A value of the run config, by dotted key; the stage must have declared it."""
        return self.stage.config[key]


@dataclass(frozen=True)
class StageResult:
    """What goes into the manifest beside the files."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    """What was done otherwise than asked, one sentence each; logged as well as recorded."""


@contextmanager
def progress_bar(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A bar on stderr while the block runs; silent where stderr is not a terminal."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda units: progress.advance(task, units)
