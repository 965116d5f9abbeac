"""Logging to stderr; data goes to stdout.

Text for people, or one JSON object a line (``--log-format json``): ``time``, ``level``,
``process``, ``logger``, ``message``, and ``traceback`` where there is one.
"""

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

from lmrun import env

FORMATS = ("text", "json")
MAIN_PROCESS = "lmrun"
_ROOT = "lmrun"


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        trace = self.formatException(record.exc_info) if record.exc_info else None
        return json_line(
            record.levelname.lower(),
            record.getMessage(),
            process=self.process,
            logger=record.name,
            traceback=trace,
        )


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """As `StreamHandler` does."""
        self.stream = sys.stderr
        super().emit(record)


def get(name: str) -> logging.Logger:
    """Logger of a module; pass ``__name__``."""
    return logging.getLogger(name)


def setup(level: str | None = None, style: str = "text", process: str = MAIN_PROCESS) -> None:
    """Send lmrun's log to stderr. Called by the entry points only.

    Without a level: what an earlier call set stays, as in a child whose guard has been told; where
    there was none, ``LMRUN_LOG`` says. ``process`` is this process's name in JSON lines.
    """
    logger = logging.getLogger(_ROOT)
    if level is None and logger.handlers:
        return
    logger.setLevel((level or env.log_level()).upper())
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = _Stderr()
    handler.setFormatter(_JsonFormatter(process) if style == "json" else _TextFormatter())
    logger.addHandler(handler)
    _take_the_others(handler if style == "json" else None)


def _take_the_others(handler: logging.Handler | None) -> None:
    """Send what other libraries warn of to our handler, so that stderr stays JSON; None: leave
    them as Python has them."""
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Stderr)]:
        root.removeHandler(old)
    if handler is not None:
        root.addHandler(handler)
    logging.captureWarnings(handler is not None)


def is_json() -> bool:
    """Whether stderr carries JSON lines and nothing else."""
    handlers = logging.getLogger(_ROOT).handlers
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in handlers)


def is_chatty() -> bool:
    """Whether text for people (a plan, a progress bar) belongs on stderr: not with ``-q``, not
    among JSON lines."""
    return logging.getLogger(_ROOT).isEnabledFor(logging.INFO) and not is_json()


def arguments() -> Sequence[str]:
    """What `lmrun.deploy.guard` needs to set a child's log up like this process's."""
    logger = logging.getLogger(_ROOT)
    if not logger.handlers:
        return ()
    level = logging.getLevelName(logger.level).lower()
    return ("--log-level", level, "--log-format", "json" if is_json() else "text")


def json_line(
    level: str,
    message: str,
    *,
    process: str = MAIN_PROCESS,
    logger: str | None = None,
    traceback: str | None = None,
) -> str:
    """A line of the JSON log, without its end."""
    document = {
        "time": now(),
        "level": level,
        "process": process,
        "logger": logger,
        "message": message,
        "traceback": traceback,
    }
    present = {key: value for key, value in document.items() if value is not None}
    return json.dumps(present, ensure_ascii=False)


def now() -> str:
    """The time as JSON lines carry it: UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
