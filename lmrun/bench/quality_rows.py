"""The rows of `lmrun bench quality`: a model built one way, and what it was found to be worth."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.config import Composed, compose
from lmrun.errors import LmrunError, PlanError, StageError
from lmrun.models import builtin
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan

FLOAT = "float"
FOUR_BITS: Mapping[str, tuple[str, ...]] = {
    "rtn": ("quant.method=rtn",),
    "awq": ("quant.method=awq",),
    "gptq": ("quant.method=gptq",),
    "awq_gptq": ("quant.method=awq_gptq",),
    "autoround": ("quant.method=autoround",),
    "rotated_gptq": ("quant.method=gptq", "quant.rotate=true"),
    "best": ("quant.method=best",),
}
EIGHT_BITS = ("w8a8", "w8a16")
METHODS = (FLOAT, *FOUR_BITS, *EIGHT_BITS)
LEARNING = ("autoround", "best")
"""Methods that read `quant.preset`."""
GROUP_SIZES = (128, 64, 32)


@dataclass(frozen=True)
class Settings:
    """What the table is made of."""

    models: tuple[str, ...] = (builtin.DEMO,)
    methods: tuple[str, ...] = METHODS
    group_sizes: tuple[int, ...] = GROUP_SIZES
    text: str = "builtin:stories"
    """Held out."""
    calibration: str = "builtin:sample"
    samples: int = 128
    seq_len: int = 256
    seed: int = 0
    preset: str = "light"
    window: int = 256
    max_tokens: int = 65535
    kl_tokens: int = 65535


@dataclass(frozen=True)
class Way:
    """One way to quantize a model."""

    model: str
    method: str
    group_size: int | None
    """None where the method has none (float)."""

    @property
    def title(self) -> str:
        """As the table shows it."""
        group = "" if not self.group_size else f" g{self.group_size}"
        return f"{self.method}{group}"


@dataclass(frozen=True)
class Row:
    """What became of it; figures are None where it was refused or failed."""

    model: str
    """The served name."""
    method: str
    group_size: int | None
    perplexity: float | None = None
    perplexity_standard_error: float | None = None
    ppl_ratio: float | None = None
    kl: float | None = None
    top1: float | None = None
    weight_bytes: int | None = None
    """Of all weights in the workspace, embedding and head included."""
    quantize_s: float | None = None
    """What the stage took when it ran, whenever that was; None for the float model."""
    text_sha256: str | None = None
    tokens: int | None = None
    shape: tuple[int, int, int] | None = None
    """Hidden size, layers, vocabulary."""
    problem: str | None = None
    """Why there are no figures."""
    is_refused: bool = False
    """It is: the model cannot be quantized so."""


def ways(settings: Settings) -> Iterator[Way]:
    """All rows, model by model."""
    for model in settings.models:
        for method in settings.methods:
            if method == FLOAT:
                yield Way(model, method, None)
            elif method == "w8a8":
                yield Way(model, method, 0)
            elif method == "w8a16":
                yield Way(model, method, 128)
            else:
                yield from (Way(model, method, size) for size in settings.group_sizes)


def overrides(way: Way, settings: Settings) -> list[str]:
    """The settings of a deployment that is such a row."""
    if way.method == FLOAT:
        chosen = ["quant=none"]
    elif way.method in EIGHT_BITS:
        chosen = [f"quant={way.method}"]
    else:
        chosen = [*FOUR_BITS[way.method], "quant.bits=4", f"quant.group_size={way.group_size}"]
        if way.method in LEARNING:
            chosen.append(f"quant.preset={settings.preset}")
    return [
        f"model.path={way.model}",
        *chosen,
        "kv.bits=16",
        f"calibration.data={settings.calibration}",
        f"calibration.samples={settings.samples}",
        f"calibration.seq_len={settings.seq_len}",
        f"calibration.seed={settings.seed}",
        f"evaluate.data={settings.text}",
        f"evaluate.window={settings.window}",
        f"evaluate.max_tokens={settings.max_tokens}",
        f"evaluate.kl_tokens={settings.kl_tokens}",
    ]


def measure(way: Way, settings: Settings) -> Row:
    """Build and evaluate what is not in the store yet; what is refused or fails is a row too."""
    name = Path(way.model).name
    try:
        composed = compose(overrides(way, settings))
        store = Store(env.home())
        plan = make_plan(composed, store)
        name = plan.served_name
        if plan.refusals:
            raise PlanError(plan.refusals[0])
        if plan.quality is None:
            _build(plan)
            plan = make_plan(composed, store)
    except LmrunError as error:
        is_refused = isinstance(error, PlanError)
        problem = _short(str(error))
        return Row(name, way.method, way.group_size, problem=problem, is_refused=is_refused)
    return _row(way, composed, plan, store)


def _row(way: Way, composed: Composed, plan: Plan, store: Store) -> Row:
    found: Mapping[str, Any] = plan.quality or {}
    quantize = plan.stage("quantize")
    seconds = None
    if quantize is not None and quantize.fingerprint is not None:
        artifact = store.find("quantize", quantize.fingerprint)
        seconds = None if artifact is None else artifact.manifest.fields.seconds
    protocol = found.get("protocol") or {}
    spec = plan.spec
    return Row(
        model=plan.served_name,
        method=way.method,
        group_size=way.group_size,
        perplexity=found.get("perplexity"),
        perplexity_standard_error=found.get("perplexity_standard_error"),
        ppl_ratio=found.get("ppl_ratio"),
        kl=found.get("kl"),
        top1=found.get("top1"),
        weight_bytes=plan.budget.weights_bytes,
        quantize_s=seconds,
        text_sha256=protocol.get("text_digest"),
        tokens=protocol.get("tokens"),
        shape=(spec.hidden_size, spec.num_layers, spec.vocab_size),
        problem=None if found else "no quality report was written",
    )


def _build(plan: Plan) -> None:
    """Run the stages in a child, so that what they hold is gone afterwards."""
    command = [sys.executable, "-P", "-m", "lmrun.stages.runner", "evaluate"]
    done = subprocess.run(
        command, input=json.dumps(plan.to_json()), text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise StageError(lines[-1] if lines else f"the stages ended with {done.returncode}")


def _short(text: str) -> str:
    return text.splitlines()[0]
