"""A deployment built through the real plan and stages."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmrun import _engine
from lmrun.artifacts.store import Store
from lmrun.plan.plan import Plan


@dataclass(frozen=True)
class Built:
    """A built deployment: its plan and its store."""

    plan: Plan
    store: Store

    def engine(self, **changes: Any) -> _engine.Engine:
        """The native engine with the plan's settings, some of them changed."""
        return _engine.Engine(**{**asdict(self.plan.engine), **changes})

    def quantized_folder(self) -> Path:
        """The AWQ folder the quantize stage wrote."""
        stage = next(stage for stage in self.plan.stages if stage.name == "quantize")
        assert stage.fingerprint is not None
        artifact = self.store.find("quantize", stage.fingerprint)
        assert artifact is not None
        return artifact.path


Builder = Callable[..., Built]
