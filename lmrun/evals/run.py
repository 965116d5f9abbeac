"""The two entries of the stages: the baseline's scores, and a deployment's quality.

    baseline_scores(baseline_llm, evaluation, folder)
    quality = evaluate(llm, evaluation, baseline=folder)

Both go through `LLM`, so figures include weight bits, KV bits and activation bits. The same engine
build on the same instruction set gives the same figures to the last bit, whatever the batching.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmrun import log
from lmrun.engine.llm import LLM
from lmrun.errors import PlanError
from lmrun.evals import texts
from lmrun.evals.baseline import Reader, Scored, Writer
from lmrun.evals.report import Quality, TaskScore, ToolScore
from lmrun.evals.task_files import read_task
from lmrun.evals.task_scores import score_task
from lmrun.evals.text_figures import text_figures, window_scores
from lmrun.evals.texts import ScoredText
from lmrun.evals.tool_files import read_tools
from lmrun.evals.tool_scores import check_tools_of, score_tools
from lmrun.models.workspace import read_workspace

_log = log.get(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What is measured. Paths are of files on this machine: `builtin_data.path` finds our own."""

    data: Path | None = None
    """Text of perplexity, KL and top-1: a .txt file, or a .jsonl file with a field `text`."""
    window: int = 256
    max_tokens: int = 65535
    kl_tokens: int = 4096
    """Needs a baseline; 0: no KL and no top-1."""
    tasks: Mapping[str, Path] = field(default_factory=dict)
    task_limit: int | None = None
    """First so many items of each task file and of the tools file."""
    tools: Path | None = None


def baseline_scores(llm: LLM, evaluation: Evaluation, folder: Path) -> None:
    """Score ``evaluation.data`` and write the result into ``folder``, which exists.

    ``llm`` is the unquantized model with KV 16. Reads ``data``, ``window``, ``max_tokens`` and
    ``kl_tokens`` alone. Whole rows are written as they come: memory holds those of a few windows.
    """
    text = _text(llm, evaluation)
    expected = _expected(llm, text, evaluation)
    with Writer(folder, expected) as writer:
        for scores in window_scores(llm, text, expected.kl_tokens, "baseline"):
            writer.add(scores)


def evaluate(
    llm: LLM, evaluation: Evaluation, *, baseline: Path | None, details: Path | None = None
) -> Quality:
    """All figures that ``evaluation`` asks for.

    ``baseline`` is a folder of `baseline_scores` over the same data; None leaves out what needs
    one, and ``notes`` says so. ``details`` is a folder that gets the answer to every item of a
    task or tools file (`tasks.NAME.jsonl`, `tools.jsonl`).

    `ArtifactError` for a file that is not of its format, or a baseline of other data; `PlanError`
    where the model cannot be asked (tools without a template for them, a text too short);
    `StageError` where a score is no finite number. All files are read before anything is scored.
    """
    text = None if evaluation.data is None else _text(llm, evaluation)
    limit = evaluation.task_limit
    tasks = {name: read_task(path, limit) for name, path in evaluation.tasks.items()}
    tools = None if evaluation.tools is None else read_tools(evaluation.tools, limit)
    if tools is not None:
        check_tools_of(llm)
    seconds: dict[str, float] = {}
    notes: list[str] = []
    quality = Quality()
    if text is not None:
        reader = None
        if baseline is not None:
            reader = Reader(baseline)
            reader.check(_expected(llm, text, evaluation))
        else:
            notes.append("no baseline: perplexity is not compared, KL and top-1 are left out")
        with _timed(seconds, "text"):
            quality = text_figures(llm, text, reader)
        _log.info("%s: perplexity %.4f", text.name, quality.perplexity)
    task_scores: dict[str, TaskScore] = {}
    for name, task in tasks.items():
        with _timed(seconds, f"tasks.{name}"):
            file = None if details is None else details / f"tasks.{name}.jsonl"
            task_scores[name], said = score_task(llm, name, task, file)
        notes += said
        _log.info("task %s: accuracy %.4f", name, task_scores[name].accuracy)
    tool_score: ToolScore | None = None
    if tools is not None:
        with _timed(seconds, "tools"):
            file = None if details is None else details / "tools.jsonl"
            tool_score, said = score_tools(llm, tools, file)
        notes += said
        _log.info("tools: accuracy %.4f", tool_score.accuracy)
    return replace(
        quality,
        tasks=task_scores,
        tools=tool_score,
        engine=_engine(llm),
        notes=tuple(notes),
        seconds=seconds,
    )


def _text(llm: LLM, evaluation: Evaluation) -> ScoredText:
    assert evaluation.data is not None
    longest = llm.effective_config()["context_length"]
    if evaluation.window > longest:
        raise PlanError(
            f"evaluate.window={evaluation.window}: must fit into the context of {longest} tokens."
            f" Use {longest} or less, or raise backend.context_length."
        )
    return texts.cut(evaluation.data, llm.tokenizer, evaluation.window, evaluation.max_tokens)


def _expected(llm: LLM, text: ScoredText, evaluation: Evaluation) -> Scored:
    kl_tokens = min(evaluation.kl_tokens, text.tokens)
    workspace = read_workspace(Path(llm.effective_config()["workspace"]))
    return Scored.of(text, kl_tokens, workspace.spec.vocab_size, _engine(llm))


def _engine(llm: LLM) -> dict[str, str | int]:
    """What of the engine moves a figure, `Quality.engine`."""
    settings = llm.effective_config()
    told: dict[str, str | int] = {
        "isa": settings["isa"],
        "kv_bits": _kv_bits(settings["kv_bits"]),
    }
    workspace = read_workspace(Path(settings["workspace"]))
    if workspace.activation_bits != 16:
        told["activation_bits"] = workspace.activation_bits
    elif workspace.method != "none":
        told["activation_bits"] = settings["activation_bits"]
    return told


def _kv_bits(bits: int | list[int]) -> str | int:
    """One number, or `4, layers 0 5: 16` where layers differ."""
    if isinstance(bits, int):
        return bits
    most = max(sorted(set(bits)), key=bits.count)
    parts = [str(most)]
    for other in sorted(set(bits) - {most}):
        layers = " ".join(str(layer) for layer, own in enumerate(bits) if own == other)
        parts.append(f"layers {layers}: {other}")
    return ", ".join(parts)


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[part] = round(time.monotonic() - start, 3)
