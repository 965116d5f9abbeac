"""resolve for what is on the hub: what is missing comes into the hub's own cache, and is hashed."""

import time
from pathlib import Path

import msgspec

from lmrun import log
from lmrun.artifacts import hub_lists
from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.files import sha256
from lmrun.config.schema import ModelConfig
from lmrun.errors import StageError
from lmrun.models import hub_dataset
from lmrun.models.hub import Hub
from lmrun.models.hub_files import HubFile, HubModel, is_commit
from lmrun.models.text_files import check_text_files
from lmrun.plan.hub_source import hub_of
from lmrun.plan.plan import Plan
from lmrun.plan.sizes import show_bytes
from lmrun.progress import Advance, progress_bar

LOG_EVERY_S = 10.0
_log = log.get(__name__)


def download(plan: Plan, home: Path) -> None:
    """Download the missing files of a plan, check all against the hub's digests, note them.

    What an interrupted download left is gone on with. ``home`` is the store's folder: the digest
    cache and the list of the commit's files are kept there. Raises `StageError` where the hub
    fails or the bytes are not those it promised, `PlanError` where it refuses.
    """
    model = plan.hub
    assert model is not None
    hub = hub_of(msgspec.convert(plan.config["model"], ModelConfig))
    digests = DigestCache(home)
    missing = [file for file in model.files if file.name in model.missing]
    if missing:
        _log.info(
            "download %s@%s: %d files, %s",
            model.hub_id,
            model.commit[:12],
            len(missing),
            show_bytes(model.download_bytes),
        )
        with progress_bar(f"download {model.hub_id}", model.download_bytes, unit="bytes") as bar:
            said = _Said(model.download_bytes, bar)
            for file in missing:
                _fetch(hub, model.commit, file, digests, said.advance)
    files = _checked(hub, model, digests)
    if not hub.is_offline and all(file.sha256 is not None for file in model.files):
        if model.is_floating:
            hub.remember_commit(model.commit)
        hub_lists.write(home, model.hub_id, model.commit, files)
    if missing:
        check_text_files(hub.snapshot(model.commit), plan.chat_template)


def download_text(plan: Plan, home: Path) -> None:
    """Download the file of the calibration text, as `download` does those of a model."""
    dataset = plan.calibration_dataset
    assert dataset is not None
    model = msgspec.convert(plan.config["model"], ModelConfig)
    hub = hub_dataset.hub_of(dataset, model.hub_token, model.hub_offline)
    digests = DigestCache(home)
    size = hub.bytes_left(dataset.file)
    _log.info(
        "download %s@%s: %s, %s",
        dataset.hub_id,
        dataset.commit[:12],
        dataset.file.name,
        show_bytes(size),
    )
    with progress_bar(f"download {dataset.hub_id}", size, unit="bytes") as bar:
        _fetch(hub, dataset.commit, dataset.file, digests, _Said(size, bar).advance)
    digests.hash_files([dataset.path])
    if not is_commit(dataset.revision):
        hub.remember_commit(dataset.commit)


def _fetch(hub: Hub, commit: str, file: HubFile, digests: DigestCache, advance: Advance) -> None:
    found: list[str] = []

    def check(partial: Path) -> str:
        found.append(sha256(partial))
        return found[-1]

    if file.is_large:
        hub.fetch_large(commit, file, advance, check)
    path = hub.place(commit, file)
    if found:
        digests.remember(path, found[-1])
    if not file.is_large:
        advance(file.size)


def _checked(hub: Hub, model: HubModel, digests: DigestCache) -> list[HubFile]:
    """All files with the digests of what lies in the cache, which are those of the hub."""
    folder = hub.snapshot(model.commit)
    paths = [folder / file.name for file in model.files]
    unknown = sum(path.stat().st_size for path in paths if digests.lookup(path) is None)
    with progress_bar("hash inputs", unknown, unit="bytes") as advance:
        found = digests.hash_files(paths, advance)
    files = []
    for file, path in zip(model.files, paths, strict=True):
        if file.sha256 is not None and found[path] != file.sha256:
            raise StageError(
                f"{path}: expected SHA-256 {file.sha256}, as the hub says, got {found[path]}."
                f" The file in the cache is damaged: delete {path.resolve()} and run again."
            )
        files.append(HubFile(file.name, file.size, found[path], file.is_large))
    return files


class _Said:
    """A line of log now and then, for those who see no bar."""

    def __init__(self, total: int, bar: Advance) -> None:
        self._total, self._bar = total, bar
        self._done = 0
        self._last_s = time.monotonic()

    def advance(self, num_bytes: int) -> None:
        self._done += num_bytes
        self._bar(num_bytes)
        if time.monotonic() - self._last_s >= LOG_EVERY_S:
            self._last_s = time.monotonic()
            _log.info("downloaded %s of %s", show_bytes(self._done), show_bytes(self._total))
