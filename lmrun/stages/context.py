"""What a stage is given and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmrun.artifacts.store import RESUME, Store
from lmrun.plan.plan import Plan, StagePlan


@dataclass(frozen=True)
class StageContext:
    """What a stage gets: its plan, its inputs, and the folder it fills."""

    plan: Plan
    stage: StagePlan
    model: Path | None
    """Folder of the checkpoint the recipe starts from, pruned where the recipe prunes; None where
    the stage reads none."""
    inputs: Mapping[str, Path]
    """Artifact folders of earlier stages, by stage name."""
    partial: Path
    """Becomes the artifact; may hold what a killed attempt left."""
    store: Store
    """Where artifacts lie."""
    build: Callable[[Plan], Path]
    """The workspace of another deployment, built unless it is in the store."""
    threads: int = 1
    """Tasks that may run at once; their number changes no byte."""

    @property
    def checkpoint(self) -> Path:
        """`model`, for the stages that always have one."""
        assert self.model is not None
        return self.model

    @property
    def resume(self) -> Path:
        """Folder of the stage's own checkpoints, dropped when the artifact is committed."""
        return self.partial / RESUME

    def value(self, key: str) -> Any:  # noqa: ANN401 - a configuration value of any type
        """A value of the run config, by dotted key; the stage must have declared it."""
        return self.stage.config[key]


@dataclass(frozen=True)
class StageResult:
    """What goes into the manifest beside the files."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    """What was done otherwise than asked, one sentence each; logged as well as recorded."""
