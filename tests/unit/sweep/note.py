"""A task for launchers, in a module that their processes can import."""

import os
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig


@dataclass(frozen=True)
class Note:
    """A task that leaves a file."""

    folder: Path

    def __call__(self, config: DictConfig) -> str:
        (self.folder / f"{config.point}.txt").write_text(f"{os.getpid()} {dict(config)}")
        return "done"
