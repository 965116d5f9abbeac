"""What `lmrun up` does once its serving children have been started."""

from collections.abc import Mapping, Sequence

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import files
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.early import Early
from lmrun.deploy.locking import from_flag, overrides_of
from lmrun.deploy.supervisor import Supervisor, UpOptions
from lmrun.errors import ExitStatus


async def deploy(
    given: Mapping[str, str | None], overrides: Sequence[str], early: Early
) -> ExitStatus:
    """Compose and run a deployment; ``given`` are the flags of `lmrun up`."""
    composed = compose(overrides_of(given.get("--locked"), list(overrides)))
    store = Store(env.home())
    with located(composed):
        locked = from_flag(given.get("--locked"), composed, store)
        results = files.of_results(given.get("--junit"), composed)
        options = UpOptions("--verify" in given, locked, results)
        return await Supervisor(composed, store, options, early).run()
