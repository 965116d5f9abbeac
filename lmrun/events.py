"""What happens while a command runs, for machines: ``--events FILE``, one JSON object a line.

Every line has ``schema_version``, ``time``, ``run`` (the same for all lines of one command),
``process``, ``pid`` and ``event``; the rest depends on the event and is one of the classes here.
Several processes append to one file, each line in one write. A reader skips events it does not
know; a field is never renamed or taken away within a schema version.
"""

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, ClassVar

from lmrun import log
from lmrun.errors import UsageError
from lmrun.json_schema import DRAFT, TEXT

SCHEMA_VERSION = 1
_LOGGER = "lmrun.events"


def _is(description: str) -> dict[str, str]:
    return {"description": description}


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True)
class CommandStarted(Event):
    """A command begins."""

    verb: str
    version: str = field(metadata=_is("version of lmrun"))


@dataclass(frozen=True)
class PlannedStage:
    """A stage as planned."""

    stage: str
    action: str = field(metadata={"json_schema_extra": {"enum": ["run", "cached", "unknown"]}})
    fingerprint: str | None = field(metadata=_is("null while an input is not hashed"))
    why: str


@dataclass(frozen=True)
class Planned(Event):
    """The plan is made."""

    model: str = field(metadata=_is("name in the API"))
    recipe: str | None
    stages: tuple[PlannedStage, ...]


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins to run."""

    stage: str
    fingerprint: str
    why: str


@dataclass(frozen=True)
class Progress(Event):
    """Something long is under way; sent at most twice a second, and at its end."""

    task: str = field(metadata=_is("what is being done, such as `quantize` or `hash inputs`"))
    done: int
    total: int | None = field(metadata=_is("null where it is not known"))
    unit: str = field(metadata=_is("what is counted, such as layers or bytes"))


@dataclass(frozen=True)
class StageFinished(Event):
    """A stage ended well; its artifact is in the store."""

    stage: str
    fingerprint: str
    seconds: float


@dataclass(frozen=True)
class GateResult:
    """A bound of the recipe, and the figure that was held against it."""

    figure: str = field(metadata=_is("ppl, ppl_ratio, kl, top1, task.NAME or tool_accuracy"))
    key: str = field(metadata=_is("dotted key of the bound"))
    bound: float
    value: float | None = field(metadata=_is("null where the report has no such figure"))
    passed: bool


@dataclass(frozen=True)
class Evaluated(Event):
    """The quality of the deployment is known, from this command or an earlier one."""

    figures: dict[str, float] = field(metadata=_is("by name, as in gates"))
    gates: tuple[GateResult, ...]
    report: str = field(metadata=_is("path of the report"))


@dataclass(frozen=True)
class StageFailed(Event):
    """A stage ended otherwise; what was there before is untouched."""

    stage: str
    message: str


@dataclass(frozen=True)
class EngineLaunched(Event):
    """The engine's process started; it is not ready."""

    engine_pid: int


@dataclass(frozen=True)
class Ready(Event):
    """The deployment answers requests."""

    url: str = field(metadata=_is("base URL of the API, without /v1"))
    model: str = field(metadata=_is("name in the API"))
    seconds: float = field(metadata=_is("since the launch of the engine"))


@dataclass(frozen=True)
class PageReady(Event):
    """The web page answers."""

    url: str


@dataclass(frozen=True)
class ChildEnded(Event):
    """A child of the deployment ended by itself."""

    child: str
    message: str


@dataclass(frozen=True)
class Draining(Event):
    """A signal came: running requests may end, new ones are refused."""

    drain_s: float


@dataclass(frozen=True)
class Stopped(Event):
    """The deployment is gone."""

    in_time: bool = field(metadata=_is("every running request ended"))


@dataclass(frozen=True)
class Error(Event):
    """The command fails; the message is the one on stderr."""

    kind: str = field(metadata=_is("class of the error, such as PlanError"))
    message: str
    status: int = field(metadata=_is("exit status of the command"))


@dataclass(frozen=True)
class CommandFinished(Event):
    """The last line of a command."""

    status: int = field(metadata=_is("exit status"))


EVENTS: tuple[type[Event], ...] = tuple(Event.__subclasses__())


class _File(logging.Handler):
    """Appends to the file, one line a write.

    Kept among the handlers of a logger, which is where a process keeps where it reports to.
    """

    def __init__(self, path: str, run: str, process: str) -> None:
        super().__init__()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o644)
        self.path, self.run, self.process = path, run, process

    def write(self, event: Event) -> None:
        """Append one event; a file that takes no more is said once and left."""
        head = {
            "schema_version": SCHEMA_VERSION,
            "time": log.now(),
            "run": self.run,
            "process": self.process,
            "pid": os.getpid(),
            "event": event.name,
        }
        line = json.dumps({**head, **asdict(event)}, ensure_ascii=False) + "\n"
        try:
            os.write(self.descriptor, line.encode("utf-8", "replace"))
        except OSError as error:
            close()
            log.get("lmrun").warning(
                "--events %s: cannot be written any more: %s", self.path, error.strerror
            )

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)
        super().close()


def _file() -> _File | None:
    """This process's file of events, if it has one."""
    handlers = logging.getLogger(_LOGGER).handlers
    return next((handler for handler in handlers if isinstance(handler, _File)), None)


def setup(path: str, *, run: str | None = None, process: str = log.MAIN_PROCESS) -> None:
    """Append this process's events to a file from now on; `UsageError` where that cannot be.

    ``run`` ties the lines of a command and its children together; None begins a new one.
    """
    if path == "-":
        raise UsageError(
            "--events -: expected a file; stdout belongs to the command's own data."
            " Write --events /dev/stderr, or a file."
        )
    close()
    try:
        handler = _File(path, run or os.urandom(4).hex(), process)
    except OSError as error:
        raise UsageError(
            f"--events {path}: cannot be written: {error.strerror}. Give a file in a folder that"
            " exists."
        ) from error
    logging.getLogger(_LOGGER).addHandler(handler)


def emit(event: Event) -> None:
    """Write an event; costs nothing where no file was asked for."""
    file = _file()
    if file is not None:
        file.write(event)


def close() -> None:
    """Write no more events."""
    file = _file()
    if file is not None:
        logging.getLogger(_LOGGER).removeHandler(file)
        file.close()


def arguments() -> Sequence[str]:
    """What `lmrun.deploy.guard` needs so that a child writes to the same file."""
    file = _file()
    if file is None:
        return ()
    return ("--events", os.path.abspath(file.path), "--run", file.run)  # noqa: PTH100


@cache
def schema() -> dict[str, Any]:
    """JSON Schema of one line."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - 75 ms, for this alone

    definitions: dict[str, Any] = {}
    branches = []
    for event in EVENTS:
        body = TypeAdapter(event).json_schema(ref_template="#/$defs/{model}")
        definitions.update(body.pop("$defs", {}))
        branches.append(
            {
                "title": event.name,
                "description": event.__doc__,
                "properties": {"event": {"const": event.name}, **body.get("properties", {})},
                "required": ["event", *body.get("required", [])],
            }
        )
    return {
        "$schema": DRAFT,
        "title": "an event of lmrun",
        "description": "One line of the file of --events.",
        "type": "object",
        "properties": {
            "schema_version": {"const": SCHEMA_VERSION},
            "time": {**TEXT, "format": "date-time"},
            "run": {**TEXT, "description": "the same for all lines of one command"},
            "process": {**TEXT, "description": "lmrun, or the name of a child such as stages"},
            "pid": {"type": "integer"},
            "event": {"enum": [event.name for event in EVENTS]},
        },
        "required": ["schema_version", "time", "run", "process", "pid", "event"],
        "oneOf": branches,
        "$defs": definitions,
    }
