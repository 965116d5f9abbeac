"""Hydra's launchers: where the points of a sweep run.

A launcher is made for jobs that Hydra composes. Ours is a Hydra application of one key, `point`,
so that a launcher composes nothing but a name, whatever the recipe, and writes no config: see
README.md.
"""

import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmrun.config.composed import COMMAND_LINE
from lmrun.config.suggest import did_you_mean
from lmrun.errors import ConfigError, PlanError

BASIC = "basic"
JOBLIB = "joblib"
_APP = "lmrun_sweep_point"
_PACKAGES = {
    "joblib": "lmrun[joblib]",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
}
"""Launcher → what pip installs it with."""


@dataclass(frozen=True)
class Launching:
    """A launcher with its settings, as the command line gives them."""

    name: str
    workers: int | None
    """Points that may run at once on this machine; None where that is not this machine's to say."""
    words: tuple[str, ...]

    def launch(self, ids: Sequence[str], task: TaskFunction, folder: Path) -> None:
        """Run the task for every point, through the launcher; returns when all have ended.

        ``folder`` is the sweep's. What a launcher itself raises (a worker that was killed) is
        raised on.
        """
        words = (*self.words, *_quiet(folder))
        with _loader() as loader:
            config = _composed(loader, words)
            context = HydraContext(config_loader=loader, callbacks=Callbacks())
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=task, config=config
            )
            jobs = [[f"point='{name}'"] for name in ids]  # unquoted, 123e45 would be a number
            launcher.launch(jobs, initial_job_idx=0)


def prepare(words: Sequence[str], cores: int) -> Launching:
    """Check the words about a launcher; raises `ConfigError`, or `PlanError` for one that is not
    installed. ``cores`` is what -1 workers of joblib stand for."""
    chosen = [word.partition("=")[2] for word in words if word.startswith("hydra/launcher=")]
    if any("_target_" in word for word in words):
        raise ConfigError(
            f"hydra.launcher ({COMMAND_LINE}): _target_ names code to run, and settings are data."
            f" Choose by name: hydra/launcher={JOBLIB}."
        )
    name = chosen[-1] if chosen else BASIC
    settings = [word.partition("=")[0] for word in words if not word.startswith("hydra/")]
    if name == BASIC and settings:
        raise ConfigError(
            f"{settings[0]} ({COMMAND_LINE}): the {BASIC} launcher, which runs one point after the"
            f" other, has no settings. Add hydra/launcher={JOBLIB}."
        )
    if name != BASIC:
        _find_plugins()
    with _loader() as loader:
        names = loader.get_group_options("hydra/launcher")
        if name not in names:
            raise _missing(name, names)
        config = _composed(loader, words)
    workers = OmegaConf.select(config, "hydra.launcher.n_jobs") if name == JOBLIB else None
    if name == JOBLIB and not (isinstance(workers, int) and workers):
        raise ConfigError(
            f"hydra.launcher.n_jobs ({COMMAND_LINE}): expected a number of workers, got"
            f" {workers}. -1 is one for each core."
        )
    if workers is not None and workers < 0:
        workers = max(1, cores + 1 + workers)
    return Launching(name, 1 if name == BASIC else workers, tuple(words))


def _missing(name: str, names: Sequence[str]) -> PlanError:
    package = _PACKAGES.get(name)
    if package is not None:
        return PlanError(
            f"hydra/launcher={name} ({COMMAND_LINE}): is not installed."
            f" Write pip install '{package}'."
        )
    return PlanError(
        f"hydra/launcher={name} ({COMMAND_LINE}): no such launcher.{did_you_mean(name, names)}"
        f" Installed: {', '.join(names)}."
    )


def _composed(loader: ConfigLoader, words: Sequence[str]) -> DictConfig:
    try:
        return loader.load_configuration(
            config_name=_APP, overrides=list(words), run_mode=RunMode.MULTIRUN, from_shell=False
        )
    except (HydraException, OmegaConfBaseException) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"hydra.launcher ({COMMAND_LINE}): {reason}.") from error


def _quiet(folder: Path) -> tuple[str, ...]:
    """Nothing but rows and logs in the sweep's folder, and no second log on stderr."""
    quoted = QuotedString(str(folder), Quote.single).with_quotes()
    return (
        f"hydra.sweep.dir={quoted}",
        "hydra.sweep.subdir=points",
        "hydra.output_subdir=null",
        "hydra.job.chdir=false",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    )


@contextmanager
def _loader() -> Iterator[ConfigLoader]:
    store = ConfigStore.instance()
    if f"{_APP}.yaml" not in store.repo:
        store.store(name=_APP, node={"point": "???"}, provider="lmrun")
    # 1.4 knows one behaviour and warns when a version is passed.
    is_older = tuple(map(int, hydra.__version__.split(".")[:2])) < (1, 4)
    arguments: dict[str, Any] = {"version_base": "1.3"} if is_older else {}
    with hydra.initialize(config_path=None, job_name="lmrun", **arguments):
        yield GlobalHydra.instance().config_loader()


def _find_plugins() -> None:
    """Let Hydra know the launchers that are installed, and no other plugin: composition hides
    them all, since a scan imports Ray and Optuna too."""
    try:
        installed = import_module("hydra_plugins")
    except ImportError:
        return
    for found in pkgutil.walk_packages(installed.__path__, "hydra_plugins."):
        package, _, module_name = found.name.removeprefix("hydra_plugins.").partition(".")
        if not package.endswith("_launcher") or module_name.startswith("_"):
            continue
        try:
            module = import_module(found.name)
        except ImportError:
            continue  # what it needs is not installed
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, Launcher) and one is not Launcher:
                Plugins.instance().register(one)
