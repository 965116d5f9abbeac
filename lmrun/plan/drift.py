"""What is no longer as a lock says: each thing, old → new, and what to do about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmrun.artifacts.canonical import canonical
from lmrun.models.checkpoint import SIDE_FILES
from lmrun.models.registry import GENERATION_FILE
from lmrun.plan.lock import UNKNOWN, Lock, LockedStage, rounded
from lmrun.plan.sizes import things
from lmrun.plan.stage_specs import STAGES

NONE = "none"
LEAST_KL = 0.01
"""Nats: below it, what rounding moves is not small beside the figure."""
_SHOWN_DIGITS = 12
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_TOKENIZER = frozenset(SIDE_FILES) - {GENERATION_FILE, *_TEMPLATES}

KINDS: Mapping[str, str] = {
    "config": "undo the change, or lock again",
    "plan": "make it possible again: until then the model's files are not compared",
    "model": "bring the locked files back, or lock again",
    "tokenizer": "bring the locked files back, or lock again",
    "chat template": "bring the locked file back, or lock again",
    "calibration data": "bring the locked text back, or lock again",
    "evaluation data": "bring the locked files back, or lock again",
    "quality": "find what moved the figure beyond evaluate.tolerance, or lock again",
    "code version": "install the lmrun that is locked, or lock again",
    "numeric class": "build where the class is that of the lock, or lock again here",
    "artifact": "build what is missing or damaged (`lmrun build`), or lock again",
    "engine build": "install lmrun from the locked sources with the same compiler, or lock again",
    "package version": "install the locked versions, or lock again",
}
"""What can drift, in the order of reports → what to do."""


@dataclass(frozen=True)
class Drift:
    """One thing that is no longer as it was locked."""

    kind: str
    """A key of `KINDS`."""
    name: str
    locked: str
    now: str
    where: str = ""
    """Where the new value comes from, if that is known: `recipes/x.yaml:3`."""

    @property
    def text(self) -> str:
        """`kv.bits: 4 → 8 (command line)`."""
        origin = f" ({self.where})" if self.where else ""
        return f"{self.name}: {_cut(self.locked)} → {_cut(self.now)}{origin}"


def inputs_drift(locked: Lock, now: Lock, origins: Mapping[str, object]) -> list[Drift]:
    """All that decides what a build writes: config, files, text, code versions, numeric class.

    ``now`` holds the digests of today's files; what its stages built is not looked at. ``origins``
    tells where a key of today's config was set.
    """
    found = [
        *_config(locked, now, origins),
        *_model(locked, now),
        *_text(locked, now),
        *(Drift("evaluation data", *one) for one in _differing(locked.evaluation, now.evaluation)),
        *_stages(locked, now),
    ]
    return found or list(_unexplained(locked, now))


def versions_drift(locked: Lock, now: Lock) -> list[Drift]:
    """Engine build and packages."""
    engine = [Drift("engine build", *one) for one in _differing(locked.engine, now.engine)]
    packages = [Drift("package version", *one) for one in _differing(locked.packages, now.packages)]
    return engine + packages


def quality_drift(locked: Lock, figures: Mapping[str, float], tolerance: float) -> list[Drift]:
    """Figures that moved by more than ``tolerance``, which is relative for perplexity, its ratio
    and KL divergence (there of 0.01 nats at least), and absolute for shares."""
    found = []
    for name, old in sorted(locked.figures.items()):
        new = figures.get(name)
        if new is None:
            found.append(Drift("quality", name, f"{old:.6g}", NONE))
        elif abs(rounded(new) - rounded(old)) > tolerance * _scale(name, old):
            found.append(Drift("quality", name, f"{old:.6g}", f"{new:.6g}"))
    return found


def _scale(name: str, value: float) -> float:
    if name in ("ppl", "ppl_ratio"):
        return abs(value)
    return max(abs(value), LEAST_KL) if name == "kl" else 1.0


def files_drift(stage: str, locked: LockedStage, files: Mapping[str, str]) -> list[Drift]:
    """The files of an artifact against those that were locked."""
    return [
        Drift("artifact", f"{stage}/{name}", old, new)
        for name, old, new in _differing(locked.files, files)
    ]


def moved_stages(locked: Lock, now: Lock) -> list[str]:
    """Stages that would build another artifact than the locked one, or none."""
    return [
        stage.name
        for stage in STAGES
        if stage.name in locked.stages
        and (
            stage.name not in now.stages
            or now.stages[stage.name].fingerprint
            not in (locked.stages[stage.name].fingerprint, UNKNOWN)
        )
    ]


def counted(drifts: list[Drift]) -> str:
    """`1 thing drifted` or `3 things drifted`."""
    return f"{things(len(drifts), 'thing')} drifted"


def drift_text(drifts: list[Drift]) -> str:
    """Every drift, grouped by kind, with what to do."""
    lines = []
    for kind, advice in KINDS.items():
        group = [drift for drift in drifts if drift.kind == kind]
        if group:
            lines.append(f"  {kind}: {advice}")
            lines += [f"    {drift.text}" for drift in group]
    return "\n".join(lines)


def changed_lines(old: Lock, new: Lock) -> list[str]:
    """Lines that differ between two lock files: `config.kv.bits: 4 → 8`."""
    before, after = _lines(_flat(old.to_json())), _lines(_flat(new.to_json()))
    return [Drift("", *one).text for one in _differing(before, after)]


def sources_notes(locked: Lock, now: Lock) -> list[str]:
    """Recipe and option files whose text changed, for a lock whose settings are the same."""
    notes = []
    for name, _, _ in _differing(locked.sources, now.sources):
        if name not in now.sources:
            notes.append(f"{name}: took part when it was locked, to the same settings")
        elif name not in locked.sources:
            notes.append(f"{name}: takes part now, to the same settings")
        else:
            notes.append(f"{name}: changed since, to the same settings")
    return notes


def _config(locked: Lock, now: Lock, origins: Mapping[str, object]) -> Iterator[Drift]:
    before, after = _flat(locked.config), _flat(now.config)
    for name, old, new in _differing(before, after):
        yield Drift("config", name, old, new, str(origins.get(name, "")))


def _model(locked: Lock, now: Lock) -> Iterator[Drift]:
    if locked.model.kind != now.model.kind:
        yield Drift("model", "kind", locked.model.kind, now.model.kind)
    if locked.model.name != now.model.name and "@" in locked.model.name + now.model.name:
        yield Drift("model", "commit", locked.model.name, now.model.name)
    for name, old, new in _differing(locked.model.files, now.model.files):
        yield Drift(_kind_of(name), name, old, new)
    template, today = locked.model.chat_template, now.model.chat_template
    if template != today:
        yield Drift("chat template", "model.chat_template", template or NONE, today or NONE)


def _kind_of(file: str) -> str:
    if file in _TEMPLATES:
        return "chat template"
    return "tokenizer" if file in _TOKENIZER else "model"


def _text(locked: Lock, now: Lock) -> Iterator[Drift]:
    old, new = locked.calibration, now.calibration
    if old is not None and new is not None and old.sha256 != new.sha256:
        yield Drift("calibration data", new.data, _show(old.sha256), _show(new.sha256))


def _stages(locked: Lock, now: Lock) -> Iterator[Drift]:
    shared = locked.stages.keys() & now.stages.keys()
    both = [stage.name for stage in STAGES if stage.name in shared]
    classes: dict[tuple[str, str, str], list[str]] = {}
    for name in both:
        old, new = locked.stages[name], now.stages[name]
        if old.code_version != new.code_version:
            yield Drift("code version", name, str(old.code_version), str(new.code_version))
        for change in _differing(old.numeric_class or {}, new.numeric_class or {}):
            classes.setdefault(change, []).append(name)
    for (field, was, is_now), names in classes.items():
        yield Drift("numeric class", field, was, is_now, f"of {' and '.join(names)}")


def _unexplained(locked: Lock, now: Lock) -> Iterator[Drift]:
    """What differs though all that is compared is equal: fingerprints, and parts on one side."""
    old_text, new_text = locked.calibration, now.calibration
    if (old_text is None) != (new_text is None):
        data = [text.data for text in (old_text, new_text) if text is not None]
        digests = [NONE if text is None else text.sha256 for text in (old_text, new_text)]
        yield Drift("calibration data", data[0], *digests)
    for name in moved_stages(locked, now):
        old = locked.stages[name].fingerprint
        new = now.stages[name].fingerprint if name in now.stages else None
        yield Drift("code version", f"fingerprint of {name}", _show(old), _show(new))
    known = {stage.name for stage in STAGES}
    for name in sorted({*now.stages} - {*locked.stages}):
        yield Drift("code version", f"stage {name}", NONE, now.stages[name].fingerprint)
    for name in sorted({*locked.stages} - {*now.stages} - known):
        yield Drift("code version", f"stage {name}", locked.stages[name].fingerprint, NONE)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, old and new, as shown, of what differs, sorted by name."""
    for name in sorted({*old, *new}):
        if name in old and name in new and canonical(old[name]) == canonical(new[name]):
            continue
        yield (
            name,
            _show(old[name]) if name in old else NONE,
            _show(new[name]) if name in new else NONE,
        )


def _show(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, str) else canonical(value)


def _cut(text: str) -> str:
    """Digests are cut, as messages show them."""
    is_digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:_SHOWN_DIGITS] if is_digest else text


def _flat(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted name → value; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def _lines(values: Mapping[str, Any]) -> dict[str, Any]:
    """One value for each line of a lock file: that of a list for each item."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list) and value:
            found |= {f"{name}[{index}]": item for index, item in enumerate(value)}
        else:
            found[name] = value
    return found
