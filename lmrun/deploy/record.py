"""The record of a deployment: what it uses, where it listens, and which process it is.

`$LMRUN_HOME/deployments/<id>.json` is there while the deployment runs. The store reads it, so that
nothing is removed that is served; `lmrun.artifacts.uses.running` lists the records that live.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Use, using
from lmrun.plan.plan import Plan


def artifacts(plan: Plan) -> dict[str, str]:
    """Stage → fingerprint, of the stages whose fingerprint is known."""
    return {stage.name: stage.fingerprint for stage in plan.stages if stage.fingerprint is not None}


@contextmanager
def serving(plan: Plan, store: Store) -> Iterator[None]:
    """Hold a record for a plan that is built, while the block runs.

    Look inside the block whether the artifacts are (still) there.
    """
    use = Use(
        verb="up",
        artifacts=artifacts(plan),
        workspace=str(plan.workspace) if plan.workspace else None,
        host=plan.frontend.host,
        port=plan.frontend.port,
        served_name=plan.served_name,
        recipe=plan.recipe,
    )
    with using(store.home, use):
        yield
