"""``--cfg job``: the composed settings as YAML."""

import dataclasses
import sys

import yaml

from lmrun.cli.flags import split
from lmrun.config import compose
from lmrun.errors import ExitStatus, PlanError, UsageError

_NOT_BUILT = ("hydra", "all")


def run(argv: list[str]) -> ExitStatus:
    """Compose the overrides in `argv` and print every key; API keys stay references."""
    flags, overrides = split(argv, {"--cfg": True, "-c": True})
    for name in ("--cfg", "-c"):
        _check(name, flags.get(name, "job"))
    values = dataclasses.asdict(compose(overrides).run)
    plain = {
        group: {key: _plain(value) for key, value in leaves.items()}
        for group, leaves in values.items()
    }
    sys.stdout.write(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    return ExitStatus.OK


def _check(name: str, value: str) -> None:
    if value in _NOT_BUILT:
        raise PlanError(f"{name} {value}: not built yet. job is.")
    if value != "job":
        raise UsageError(f"{name} {value}: expected job.")


def _plain(value: object) -> object:
    return str(value) if isinstance(value, str) else value
