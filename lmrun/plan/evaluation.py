"""What an evaluation reads: files of the user's or of lmrun's own, and what they count as."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmrun.artifacts import canonical
from lmrun.config.schema import EvaluateConfig, KvConfig, PruneConfig, QuantConfig, RunConfig
from lmrun.errors import PlanError
from lmrun.models import builtin, builtin_data
from lmrun.models.builtin import PREFIX
from lmrun.models.checkpoint import SIDE_FILES, WORKSPACE_FILE, Checkpoint, find_model, is_workspace
from lmrun.models.registry import CONFIG_FILE
from lmrun.models.workspace import RANK_FILE
from lmrun.plan import gate
from lmrun.plan.plan import Evaluated, ModelKind, Plan
from lmrun.plan.source import Source
from lmrun.plan.stage_specs import JUDGING
from lmrun.quant.layout import WeightQuant
from lmrun.quant.stored import stored_quant

_EXTERNAL = ("evaluation_text", "tasks", "tools", "template", "reference")
TEXT_SUFFIXES = (".txt", ".jsonl")
NO_BASELINE = (
    "the model is {kind} already, so lmrun has no unquantized one to compare with: perplexity"
    " ratio, KL divergence and top-1 agreement need evaluate.baseline=FOLDER"
)
_KINDS = {ModelKind.quantized: "quantized", ModelKind.workspace: "a workspace"}


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, with the files found."""

    reads: Evaluated
    has_baseline: bool
    """Scores of another model are compared with: `BASELINE` is part of the run."""
    reference: Checkpoint | None = None
    """What `evaluate.baseline` names."""
    companions: tuple[tuple[str, Path], ...] = field(default=())
    """Input → a file that lies beside another one and is read with it."""

    def inputs(self, name: str) -> Iterator[tuple[str, Path]]:
        """Input → file of one of the external inputs `evaluation_text`, `tasks`, `tools`,
        `reference`. A text of another kind has another name, since the kind says how it is read."""
        reads = self.reads
        if name == "evaluation_text" and reads.data is not None:
            yield name if reads.data.suffix == ".txt" else f"{name}{reads.data.suffix}", reads.data
        if name == "tasks":
            yield from ((f"tasks.{task}", path) for task, path in sorted(reads.tasks.items()))
        if name == "tools" and reads.tools is not None:
            yield name, reads.tools
        if name == "reference" and self.reference is not None:
            yield from ((f"reference/{path.name}", path) for path in self.reference.files)
        yield from ((one, path) for one, path in self.companions if one.partition(".")[0] == name)


def find_evaluation(run: RunConfig, source: Source) -> Evaluation | None:
    """What the run config asks for; None where it asks for nothing.

    `ConfigError` for a bound without its figure; `PlanError` for a file that is not there, and for
    a bound that needs a baseline where none can be had.
    """
    asked = run.evaluate
    gate.check_asked(asked)
    if not gate.is_asked(asked):
        return None
    reads = Evaluated(
        data=_text(asked.data) if asked.data is not None else None,
        tasks={
            name: _file(f"evaluate.tasks.{name}", value)
            for name, value in sorted(asked.tasks.items())
        },
        tools=_tools(asked.tools) if asked.tools is not None else None,
        reference=None,
    )
    longest = run.backend.context_length or source.spec.context_length
    if reads.data is not None and asked.window > longest:
        raise PlanError(
            f"evaluate.window={asked.window}: must be at most {longest}, the context of this"
            f" deployment. Write evaluate.window={longest}, or raise backend.context_length."
        )
    companions = [(f"tasks.{name}", path) for name, path in reads.tasks.items()]
    companions += [("tools", reads.tools)] if reads.tools is not None else []
    found = Evaluation(
        reads,
        has_baseline=False,
        companions=tuple(
            (f"{name}.beside", beside)
            for name, path in companions
            if (beside := builtin_data.companion(path)) is not None
        ),
    )
    if reads.data is None:
        return found
    if asked.baseline is not None:
        reference = _reference(asked.baseline, source)
        reads = replace(reads, reference=reference.path)
        return replace(found, reads=reads, has_baseline=True, reference=reference)
    if source.kind in _KINDS:
        _refuse_compared(asked, source)
        return found
    return replace(found, has_baseline=True)


def external_inputs(plan: Plan) -> dict[str, str]:
    """Input → digest of what an evaluation reads from outside, the model apart: text, task and
    tools files, the chat template, the baseline's checkpoint. Those not hashed are left out."""
    stages = [stage for stage in plan.stages if stage.name in JUDGING]
    found = {name: digest for stage in stages for name, digest in stage.inputs.items()}
    return {
        name: digest
        for name, digest in sorted(found.items())
        if digest is not None and name.partition(".")[0].partition("/")[0] in _EXTERNAL
    }


def external_files(plan: Plan) -> list[Path]:
    """The files behind `external_inputs`, but for the chat template."""
    reads = plan.evaluated
    if reads is None:
        return []
    named = [path for path in (reads.data, *reads.tasks.values(), reads.tools) if path is not None]
    beside = [builtin_data.companion(path) for path in named if path != reads.data]
    found = [*named, *(path for path in beside if path is not None)]
    if reads.reference is not None:
        found += Checkpoint.open(reads.reference).files
    return found


def notes(evaluation: Evaluation | None, source: Source) -> tuple[str, ...]:
    """What a person should know of the evaluation before it runs."""
    if evaluation is None or evaluation.has_baseline or evaluation.reads.data is None:
        return ()
    return (f"evaluate: {NO_BASELINE.format(kind=_KINDS[source.kind])}",)


def template_input(run: RunConfig, digest: Callable[[Path], str | None]) -> str | None:
    """What the chat template counts as: its name, or the digest of the file; paths do not count."""
    choice = run.model.chat_template
    path = Path(choice).expanduser()
    if choice != "auto" and path.suffix and path.is_file():
        return digest(path)
    return canonical.digest({"chat_template": choice})


def workspace_files(source: Source) -> tuple[Path, ...]:
    """The files of a workspace that is served as it is."""
    folder = Path(source.path)
    names = (WORKSPACE_FILE, RANK_FILE, CONFIG_FILE, *SIDE_FILES)
    return tuple(folder / name for name in names if (folder / name).is_file())


def float_run(run: RunConfig) -> RunConfig:
    """The run config of the baseline's workspace: the model as it is, nothing evaluated."""
    plain = replace(
        run,
        quant=QuantConfig(),
        prune=PruneConfig(),
        evaluate=EvaluateConfig(),
        kv=replace(run.kv, bits=16, keep=0, keep_layers=[], keep_bits=KvConfig().keep_bits),
    )
    if run.evaluate.baseline is None:
        return plain
    model = replace(run.model, path=run.evaluate.baseline, hub_id=None, revision=None)
    return replace(plain, model=model)


def baseline_quant(evaluation: Evaluation) -> WeightQuant:
    """How the weights of the baseline's workspace are stored."""
    return stored_quant(evaluation.reference) if evaluation.reference else WeightQuant("none")


def _text(value: str) -> Path:
    key = "evaluate.data"
    path = builtin_data.path(value, builtin_data.TEXTS, key)
    if path.suffix not in TEXT_SUFFIXES:
        raise PlanError(
            f"{key}={value}: expected a .txt or .jsonl file, or"
            f" {' or '.join(PREFIX + name for name in builtin_data.TEXTS)}."
        )
    return _existing(key, value, path, "Name a .txt or .jsonl file, or use builtin:stories.")


def _tools(value: str) -> Path:
    path = builtin_data.path(value, builtin_data.TOOLS, "evaluate.tools")
    return _existing("evaluate.tools", value, path, "Name a .jsonl file, or use builtin:tools.")


def _file(key: str, value: str) -> Path:
    return _existing(key, value, Path(value).expanduser(), "Name a .jsonl file.")


def _existing(key: str, value: str, path: Path, advice: str) -> Path:
    path = path.absolute()
    if not path.is_file():
        raise PlanError(f"{key}={value}: no such file ({path}). {advice}")
    return path


def _reference(value: str, source: Source) -> Checkpoint:
    folder = _reference_folder(value)
    if is_workspace(folder):
        raise PlanError(
            f"evaluate.baseline={value}: expected a checkpoint folder, got a workspace. Name the"
            " checkpoint that it was made from."
        )
    reference = Checkpoint.open(folder)
    if reference.spec.vocab_size != source.spec.vocab_size:
        raise PlanError(
            f"evaluate.baseline={value}: expected a vocabulary of {source.spec.vocab_size} tokens,"
            f" that of the model, got {reference.spec.vocab_size}. Name a model with the same"
            " tokenizer."
        )
    return reference


def _reference_folder(value: str) -> Path:
    if value == builtin.DEMO:
        return builtin.demo_folder()
    try:
        return find_model(value)
    except PlanError as error:
        text = str(error).replace("model.path=", "evaluate.baseline=", 1)
        raise PlanError(text) from error


def _refuse_compared(asked: EvaluateConfig, source: Source) -> None:
    for bound in gate.bounds(asked):
        if bound.name in gate.COMPARED:
            raise PlanError(
                f"{bound.key}={bound.bound:g}: {NO_BASELINE.format(kind=_KINDS[source.kind])}."
            )
