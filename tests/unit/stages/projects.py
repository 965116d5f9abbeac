"""Builds of a tiny model through real plans."""

from dataclasses import dataclass
from pathlib import Path

from lmrun.artifacts.store import Artifact, Store
from lmrun.config import compose
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from lmrun.stages.runner import build

TEXT = "A small boat crossed the quiet river while the teacher counted 12 stones. " * 60


@dataclass(frozen=True)
class Project:
    """A model, a text and a store."""

    model: str
    text: Path
    store: Store

    def overrides(self, *more: str) -> list[str]:
        return [
            f"model.path={self.model}",
            f"calibration.data={self.text}",
            "calibration.samples=8",
            "calibration.seq_len=48",
            "backend.max_num_seqs=2",
            "backend.context_length=64",
            "quant.method=awq",
            "quant.group_size=32",
            *more,
        ]

    def plan(self, *more: str) -> Plan:
        return make_plan(compose(self.overrides(*more)), self.store)

    def build(self, *more: str) -> Path:
        return build(self.plan(*more), self.store)

    def artifact(self, stage: str, *more: str) -> Artifact:
        planned = self.plan(*more).stage(stage)
        assert planned is not None
        assert planned.fingerprint is not None
        found = self.store.find(stage, planned.fingerprint)
        assert found is not None
        return found
