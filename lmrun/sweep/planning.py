"""From candidates to planned points: what each is, which mean the same, which cannot be run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from lmrun import log
from lmrun.artifacts import canonical
from lmrun.artifacts.files import sha256
from lmrun.artifacts.manifest import Manifest
from lmrun.artifacts.store import Look, Store
from lmrun.bench.legal import check
from lmrun.config import Composed, RunConfig, compose
from lmrun.config.located import located
from lmrun.config.places import Places
from lmrun.config.resolved import resolved
from lmrun.errors import ConfigError, LmrunError, PlanError
from lmrun.plan import gate
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from lmrun.plan.sizes import things
from lmrun.quant.layout import CUDA
from lmrun.sweep.conclusion import settings_text
from lmrun.sweep.expansion import Candidate
from lmrun.sweep.rows import Memory, Point, Row, Status

ID_DIGITS = 12
TIMED = ("up", "bench", "plan")
"""Verbs that measure speed, and that which shows what `up` would do."""
EVALUATE = "evaluate"
QUICK = "evaluate=quick"
_SHOWN_REASONS = 20

_log = log.get("lmrun.sweep")


@dataclass(frozen=True)
class Planned:
    """A point, looked at."""

    point: Point
    plan: Plan | None
    """None where there cannot be one."""
    why_not: str
    """Why it cannot be run; empty where it can."""
    recipe: str | None

    @property
    def is_priced(self) -> bool:
        """Whether it can be run, or would be on the machine that is described."""
        return self.plan is not None and (not self.why_not or bool(self.plan.refusals))

    @property
    def row(self) -> Row:
        """Its row before anything was run."""
        return Row(
            self.point,
            Status.skipped if self.why_not else Status.waiting,
            self.why_not,
            recipe=self.recipe,
            memory=None if self.plan is None else memory_of(self.plan),
        )


@dataclass(frozen=True)
class Merged:
    """A point that means the same as an earlier one, and is not run again."""

    settings: str
    into: Point


@dataclass(frozen=True)
class PlannedSweep:
    """Every point of a sweep, each once."""

    verb: str
    points: tuple[Planned, ...]
    merged: tuple[Merged, ...]

    @property
    def runnable(self) -> tuple[Planned, ...]:
        """Points that can be run."""
        return tuple(one for one in self.points if not one.why_not)

    @property
    def id(self) -> str:
        """Of the sweep: of its points, whatever their order, and of what is done with them."""
        ids = sorted(one.point.id for one in self.points)
        return canonical.digest({"verb": self.verb, "points": ids})[:ID_DIGITS]


class Remembering(Store):
    """A store that looks up everything once: for the planning of many points, in one go."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.home)
        self._manifests: dict[str, list[Manifest]] = {}
        self._looks: dict[tuple[str, str], Look] = {}

    def manifests(self, stage: str) -> list[Manifest]:
        """As `Store.manifests`."""
        if stage not in self._manifests:
            self._manifests[stage] = super().manifests(stage)
        return self._manifests[stage]

    def look(self, stage: str, fingerprint: str) -> Look:
        """As `Store.look`."""
        key = (stage, fingerprint)
        if key not in self._looks:
            self._looks[key] = super().look(stage, fingerprint)
        return self._looks[key]


def plan_all(
    candidates: Sequence[Candidate],
    verb: str,
    store: Store,
    places: Places,
    advance: Callable[[int], None] = lambda _: None,
) -> PlannedSweep:
    """Plan every candidate; writes nothing. ``advance`` is told of each that is done.

    A point that is illegal or cannot fit has its reason; one that means the same as an earlier one
    is merged into that. Raises the common error where not one point can be run.
    """
    remembering = Remembering(store)
    evaluating = _Evaluating(verb, places)
    loads = _Loads()
    first: dict[str, Planned] = {}
    merged: list[Merged] = []
    errors: list[LmrunError] = []
    for index, asked in enumerate(candidates):
        candidate = evaluating.of(asked)
        planned, meaning, error = _planned(index, candidate, verb, remembering, places, loads)
        if error is not None:
            errors.append(error)
        if meaning in first:
            merged.append(Merged(settings_text(candidate.keys), first[meaning].point))
        else:
            first[meaning] = planned
        advance(1)
    sweep = PlannedSweep(verb, tuple(first.values()), tuple(merged))
    priced = tuple(one for one in sweep.points if one.is_priced)
    if not (priced if verb == "plan" else sweep.runnable):
        raise _none_can_run(sweep.points, errors)
    return sweep


class _Evaluating:
    """Takes `evaluate=quick` for points that are to be compared and ask for no evaluation.

    ``evaluate=none`` on the command line leaves quality out.
    """

    def __init__(self, verb: str, places: Places) -> None:
        self._is_wanted = verb in ("up", "eval", "plan")
        self._places = places
        self._asks: dict[tuple[str, ...], bool] = {}

    def of(self, candidate: Candidate) -> Candidate:
        """The candidate, perhaps with one more word."""
        if not self._is_wanted or any(word.startswith("evaluate=") for word in candidate.overrides):
            return candidate
        words = tuple(
            word
            for word in candidate.overrides
            if word.lstrip("+").startswith(("recipe=", f"{EVALUATE}."))
        )
        if words not in self._asks:
            self._asks[words] = self._look(words)
        if self._asks[words]:
            return candidate
        return replace(candidate, overrides=(*candidate.overrides, QUICK))

    def _look(self, words: tuple[str, ...]) -> bool:
        try:
            evaluate = compose(words, places=self._places).run.evaluate
        except LmrunError:
            return True  # the point itself says what is wrong
        if not gate.is_asked(evaluate):
            _log.info("no evaluation is asked for: taking %s; evaluate=none measures none", QUICK)
            return False
        return True


class _Loads:
    """What is wrong with the loads of the bench, each looked at once: a trace is a long file."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], LmrunError | None] = {}

    def error(self, composed: Composed, plan: Plan) -> LmrunError | None:
        """Why the load of a point cannot be sent."""
        bench, context = composed.run.bench, plan.engine.context_length
        key = (canonical.digest(msgspec.to_builtins(bench)), context)
        if key not in self._known:
            self._known[key] = _error_of_load(composed, context)
        return self._known[key]


def _error_of_load(composed: Composed, context: int) -> LmrunError | None:
    try:
        with located(composed):
            check(composed.run.bench, context)
    except LmrunError as error:
        return error
    return None


def _planned(
    index: int, candidate: Candidate, verb: str, store: Store, places: Places, loads: "_Loads"
) -> tuple[Planned, str, LmrunError | None]:
    """The point, what tells it from others, and why there is no plan."""
    composed: Composed | None = None
    try:
        composed = compose(candidate.overrides, places=places, is_one_of_many=True)
        plan = make_plan(composed, store)
    except LmrunError as error:
        whole: Any = list(candidate.overrides) if composed is None else resolved(composed.run)
        identity = canonical.digest({"illegal": whole})
        point = Point(index, candidate.overrides, candidate.keys, identity[:ID_DIGITS])
        recipe = composed.recipe.name if composed and composed.recipe else None
        return Planned(point, None, _one_line(str(error)), recipe), identity, error
    identity = point_id(composed.run, plan, verb)
    point = Point(index, candidate.overrides, candidate.keys, identity)
    why_not = " ".join(_one_line(text) for text in plan.refusals)
    if verb == "eval" and plan.stage(EVALUATE) is None and not why_not:
        why_not = f"evaluate: nothing is asked for. Choose {QUICK} or evaluate=full."
    unfit = loads.error(composed, plan) if verb in TIMED and not why_not else None
    planned = Planned(point, plan, why_not if unfit is None else _one_line(str(unfit)), plan.recipe)
    return planned, deployed(composed.run, plan, verb), unfit


def point_id(run: RunConfig, plan: Plan, verb: str) -> str:
    """Digest of what a point's settings say, without those that say nothing here.

    It holds nothing that moves by itself: no measurement of the machine and no version.
    """
    return canonical.digest(_settings(run, plan, verb))[:ID_DIGITS]


def deployed(run: RunConfig, plan: Plan, verb: str) -> str:
    """Digest of what a point deploys: equal for settings that come to the same."""
    document = _settings(run, plan, verb)
    for group in ("kv", "parallel"):
        del document[group]
    if run.kv.keep:  # which layers is not known before calibrate
        document["kept"] = {"layers": run.kv.keep, "bits": run.kv.keep_bits}
    document["backend"] = {
        "engine": _settings_of_engine(plan),
        "name": run.backend.name,
        "rope_scaling": run.backend.rope_scaling,
    }
    document["parallel"] = asdict(run.parallel)
    return canonical.digest(document)


def _settings_of_engine(plan: Plan) -> dict[str, Any]:
    settings = asdict(plan.engine)
    del settings["workspace"]
    return settings


def _settings(run: RunConfig, plan: Plan, verb: str) -> dict[str, Any]:
    """The run config, with the stages in the place of the keys that only stages read."""
    document: dict[str, Any] = dict(resolved(run))
    names = [stage.name for stage in plan.stages]
    del document["quant"], document["prune"]
    if not any("text" in stage.inputs for stage in plan.stages):
        del document["calibration"]
    if EVALUATE not in names or verb == "bench":
        document.pop("evaluate", None)
    if verb not in TIMED:
        document.pop("bench", None)
    document["model"] = {
        "path": plan.model_path,
        "commit": plan.hub.commit if plan.hub else None,
        "served_name": plan.served_name,
        "chat_template": plan.chat_template,
    }
    offline = [stage for stage in plan.stages if stage.name != EVALUATE]
    document["stages"] = {stage.name: stage.config for stage in offline}
    if any((stage.numeric_class or {}).get("device") == CUDA for stage in offline):
        document["computed"] = CUDA
    return document


def depends(run: RunConfig, plan: Plan, verb: str) -> dict[str, str] | None:
    """What a row's figures are measured of; None while something of it is not known.

    Rows keep it, and a point whose row has another is run again: its checkpoint, its data, the
    engine's build or the machine are not those of then.
    """
    convert, evaluate = plan.stage("convert"), plan.stage(EVALUATE)
    bytes_of = canonical.digest(_workspace_stamp(plan)) if convert is None else convert.fingerprint
    found: dict[str, str | None] = {"workspace": bytes_of}
    if evaluate is not None and verb != "bench":
        found["quality"] = evaluate.fingerprint
    if verb in TIMED:
        from lmrun import _engine  # noqa: PLC0415 - 10 ms, where something is timed alone

        if run.bench.trace is not None:
            found["trace"] = _digest(Path(run.bench.trace).expanduser())
        found["bench"] = canonical.digest(
            {
                "workspace": bytes_of,
                "engine": _settings_of_engine(plan),
                "bench": msgspec.to_builtins(run.bench),
                "build": _engine.build_info()["build"],
                "machine": [plan.device.name, plan.device.cores, plan.device.isa],
            }
        )
    known = {name: digest for name, digest in found.items() if digest is not None}
    return known if len(known) == len(found) else None


def _digest(file: Path) -> str | None:
    """Of a file's bytes; None where it cannot be read."""
    try:
        return sha256(file)
    except OSError:
        return None


def _workspace_stamp(plan: Plan) -> list[Any]:
    """Of a workspace of the user's own, which no stage made."""
    assert plan.workspace is not None
    files = sorted(file for file in plan.workspace.iterdir() if file.is_file())
    return [str(plan.workspace), *([f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files)]


def memory_of(plan: Plan) -> Memory:
    """What a plan counts on, with every KV block in use."""
    budget = plan.budget
    return Memory(budget.weights_bytes, budget.kv_bytes, budget.peak_bytes(budget.num_blocks))


def _none_can_run(points: Iterable[Planned], errors: Sequence[LmrunError]) -> LmrunError:
    reasons = [(settings_text(one.point.keys) or "the point", one.why_not) for one in points]
    lines = [f"  {settings}: {why}" for settings, why in reasons[:_SHOWN_REASONS]]
    if len(reasons) > _SHOWN_REASONS:
        lines.append(f"  … and {len(reasons) - _SHOWN_REASONS} more")
    kind = ConfigError if errors and all(isinstance(e, ConfigError) for e in errors) else PlanError
    count = f"none of {things(len(reasons), 'point')}"
    return kind("\n".join([f"-m: {count} can be run.", *lines]))


def _one_line(text: str) -> str:
    return " ".join(text.split())
