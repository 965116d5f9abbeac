"""What a launcher runs for each point, here or in a worker: a child that writes the point's row."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import DictConfig

from lmrun.engine.process import die_with_parent
from lmrun.errors import ExitStatus
from lmrun.sweep import children
from lmrun.sweep.point import Phase, failed_row
from lmrun.sweep.rows import Point, log_file, read_sweep, row_stamp, write_row

MODULE = "lmrun.sweep.point"


@dataclass(frozen=True)
class Job:
    """A task function of Hydra's: plain data, so that any launcher can send it to its workers.

    The verb and the points' overrides are in the sweep's folder.
    """

    folder: Path
    """Of the sweep."""
    cwd: Path
    """Where relative paths of the overrides begin."""
    phase: Phase
    overlap: bool
    starter: int | None = None
    """Process id of the sweep where its launcher's workers are its children: they die with it."""
    reporting: Sequence[str] = ()
    """Words of `lmrun.deploy.guard` about log and events, as the first process has them."""

    def __call__(self, config: DictConfig) -> str:
        """Run the point that the config names; the status of its row.

        Never raises for a point that fails, however its process ends.
        """
        if self.starter is not None and os.getpid() != self.starter:
            die_with_parent(self.starter)
        sweep = read_sweep(self.folder)
        point = next(row.point for row in sweep.rows if row.point.id == config.point)
        log = log_file(self.folder, point)
        began = row_stamp(self.folder, point)
        size = self._begin(log, point)
        words = [str(self.folder), point.id, self.phase.value]
        words += ["--overlap"] if self.overlap else []
        command = children.command("point", MODULE, words, self.reporting)
        status = children.run_logged(command, log, self.cwd)
        if status != ExitStatus.OK or row_stamp(self.folder, point) == began:
            said = log.read_bytes()[size:].decode("utf-8", "replace")
            reason = children.last_words(said) if status > 0 else ""
            ended = f"its process {children.describe(status)}"
            why = f"{ended}: {reason}" if reason else f"{ended}."
            write_row(sweep, failed_row(sweep, point, why))
        return "done"

    def _begin(self, log: Path, point: Point) -> int:
        """Head this run's part of the log; where it begins."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with log.open("a", encoding="utf-8") as out:
            out.write(f"--- {now} {self.phase.value}: {' '.join(point.overrides)}\n")
            return out.tell()
