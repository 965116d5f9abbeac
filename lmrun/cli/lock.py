"""`lmrun lock`: build what is missing, then pin everything in a file."""

import sys
from pathlib import Path

from lmrun import env, log
from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Use, note_lock, using
from lmrun.cli import flags
from lmrun.config import Composed, compose
from lmrun.config.located import located
from lmrun.deploy import locking
from lmrun.deploy.building import ALL, build, check_gate
from lmrun.errors import ConfigError, ExitStatus, UsageError
from lmrun.plan import lock as locks
from lmrun.plan.drift import changed_lines
from lmrun.plan.lock import Lock
from lmrun.plan.plan import Plan, check_runnable
from lmrun.plan.planner import make_plan
from lmrun.plan.sizes import things

logger = log.get(__name__)

FLAGS = {"--output": True, "--no-build": False}


def run(argv: list[str]) -> ExitStatus:
    """Write the lock of the overrides in ``argv``; stdout says what was written."""
    given, overrides = flags.split(argv, FLAGS)
    composed = compose(overrides)
    with located(composed):
        path = _path(given.get("--output"), composed)
        store = Store(env.home())
        plan = make_plan(composed, store)
        locking.check_lockable(composed, plan)
        check_runnable(plan)
        ready = _hashed if "--no-build" in given else _built
        plan = ready(composed, plan, store)
        artifacts = {stage.name: stage.fingerprint for stage in plan.stages if stage.fingerprint}
        with using(store.home, Use("lock", artifacts)):
            if "--no-build" not in given:
                plan = _completed(composed, plan, store)  # `store gc` may have come in between
            check_gate(composed, plan, store)
            lock = locking.gather(composed, plan, store)
            sys.stdout.write(_write(path, lock) + "\n")
            note_lock(store.home, path)
    return ExitStatus.OK


def _path(output: str | None, composed: Composed) -> Path:
    if output is None:
        recipe = composed.recipe.name if composed.recipe else None
        return locks.default_path(recipe, "lock", f"Name it: --output NAME{locks.SUFFIX}")
    if not locks.is_lock_file(output):
        better = Path(output).with_suffix("") if Path(output).name else "NAME"
        raise UsageError(
            f"--output={output}: expected a name that ends in {locks.SUFFIX}, by which other"
            f" commands know a lock file. Write --output {better}{locks.SUFFIX}."
        )
    return Path(output)


def _built(composed: Composed, plan: Plan, store: Store) -> Plan:
    """The plan with all its artifacts there: those too that nothing needs any more."""
    if plan.missing or not locking.unbuilt(plan, store):
        plan = build(composed, store, goal=ALL)
    return _completed(composed, plan, store)


def _completed(composed: Composed, plan: Plan, store: Store) -> Plan:
    """The plan after everything was built that is not there."""
    while absent := locking.unbuilt(plan, store):
        plan = build(composed, store, show_plan=False, goal=absent[-1])
    return plan


def _hashed(composed: Composed, plan: Plan, store: Store) -> Plan:
    """The plan with its fingerprints known, which takes hashing and no building."""
    if not plan.unhashed:
        return plan
    locking.input_digests(composed, plan, store)
    return make_plan(composed, store)


def _write(path: Path, lock: Lock) -> str:
    """Write the file unless it is that already; what was done, in words."""
    built = [name for name, stage in lock.stages.items() if stage.files]
    what = f"{things(len(lock.model.files), 'model file')}, {things(len(built), 'artifact')}"
    old = _old(path)
    if old is not None and path.read_text(encoding="utf-8") == lock.to_yaml():
        return f"{path}: unchanged ({what})"
    locks.write(path, lock)
    if old is None:
        return f"{path}: written ({what})"
    lines = changed_lines(old, lock)
    return "\n".join(
        [f"{path}: {things(len(lines), 'line')} changed ({what})", *map("  {}".format, lines)]
    )


def _old(path: Path) -> Lock | None:
    """The lock that is there; a damaged one is replaced."""
    if not path.exists():
        return None
    try:
        return locks.read(path)
    except ConfigError as error:
        logger.warning("it is replaced: %s", error)
        return None
