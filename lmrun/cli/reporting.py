"""The flags of every verb: how a command reports what it does."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lmrun import env, events, log
from lmrun.errors import UsageError

FLAGS = {"--events": True, "--log-format": True, "-v": False, "-q": False}
"""Flag → whether it takes a value."""


@dataclass(frozen=True)
class Reporting:
    """What the flags ask for."""

    events: str | None = None
    """File that gets events."""
    style: str = "text"
    level: str | None = None
    """None: what LMRUN_LOG says."""

    def apply(self) -> None:
        """Set up the log and the events of this process; children inherit both."""
        log.setup(self.level or env.log_level(), self.style)
        events.close()
        if self.events is not None:
            events.setup(self.events)


def take(argv: Sequence[str], take_a_value: Collection[str]) -> tuple[Reporting, list[str]]:
    """Take the flags out of ``argv``, wherever they stand.

    ``take_a_value`` are the verbs' flags whose value, the next word, is left alone.
    """
    given: dict[str, str] = {}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, has_value, value = word.partition("=")
        if name not in FLAGS:
            rest.append(word)
            if word in take_a_value:
                rest += [following for following in [next(words, None)] if following is not None]
            continue
        if name in given:
            raise UsageError(f"{name}: expected once, got twice. Give it one time.")
        if not FLAGS[name]:
            if has_value:
                raise UsageError(f"{name}: takes no value, got {value!r}. Write {name} alone.")
        elif not has_value:
            following = next(words, None)
            if following is None or (following.startswith("-") and following != "-"):
                raise UsageError(f"{name}: expected a value, got none. Write {name} VALUE.")
            value = following
        given[name] = value
    return _reporting(given), rest


def _reporting(given: dict[str, str]) -> Reporting:
    if "-v" in given and "-q" in given:
        raise UsageError("-v, -q: expected one of them, got both.")
    style = given.get("--log-format", "text")
    if style not in log.FORMATS:
        raise UsageError(f"--log-format: expected one of {', '.join(log.FORMATS)}, got {style!r}.")
    level = "debug" if "-v" in given else "error" if "-q" in given else None
    return Reporting(given.get("--events"), style, level)
