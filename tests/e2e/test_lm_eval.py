"""The real lm-eval, from the package index, against `lmrun up`: it must find what we find.

`test_lm_eval_requests.py` replays its requests where the package is not at hand.
"""

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e import environments
from e2e.deployment import Starter

from lmrun.engine.llm import LLM
from lmrun.evals.lm_eval_tasks import write_task
from lmrun.evals.run import Evaluation, evaluate
from lmrun.plan.engine_settings import EngineSettings

PACKAGE = "lm-eval[api]>=0.4.13,<0.5"
CHOICES = {"arc": "ARC-Challenge-Dev.jsonl", "piqa": "piqa.valid.head500.jsonl"}
NUM_CHOICES = 100
EXACT = {"gsm8k": "gsm8k.test.head300.jsonl"}
NUM_EXACT = 6
TOLERANCE = 1e-3
"""Of a choice's log-likelihood."""
SECONDS = 1200
"""For a command of lm-eval's environment."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has lm-eval: this one, or one of an environment made for it, which is
    lent the packages of this one."""
    if find_spec("lm_eval") is not None:
        return Path(sys.executable)
    return environments.make(tmp_path_factory.mktemp("lm-eval"), [PACKAGE], timeout_s=SECONDS)


@dataclass(frozen=True)
class Theirs:
    """What lm-eval wrote."""

    results: dict[str, dict[str, Any]]
    samples: dict[str, list[dict[str, Any]]]


def lm_eval(python: Path, folder: Path, names: list[str], arguments: str) -> Theirs:
    words = [str(python), "-m", "lm_eval", "run", "--model", "local-completions"]
    words += ["--model_args", arguments]
    words += ["--tasks", ",".join(f"lmrun_{name}" for name in names), "--include_path", "tasks"]
    words += ["--output_path", "out", "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    done = environments.run(words, folder, SECONDS, **offline)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = (folder / "out").rglob("results_*.json")
    samples = {}
    for name in names:
        (path,) = (folder / "out").rglob(f"samples_lmrun_{name}_*.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        samples[name] = sorted(rows, key=lambda row: row["doc_id"])
    found = json.loads(file.read_text())["results"]
    return Theirs({name: found[f"lmrun_{name}"] for name in names}, samples)


@dataclass(frozen=True)
class Case:
    """A deployment, and what lm-eval must be told about it; ``{data}`` is the test data."""

    overrides: tuple[str, ...]
    arguments: str


STORIES = (
    "model=stories3m,max_length=512,tokenizer_backend=huggingface,add_bos_token=True,"
    "tokenizer={data}/models/stories3m"
)
"""A model that begins a text with BOS: lm-eval adds one where it has the tokenizer's files."""


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "case",
    [
        Case(("model=demo", "quant=rtn"), "model=demo,max_length=2048"),
        Case(("model.path={data}/models/stories3m", "quant=none"), STORIES),
        Case(
            ("model.path={data}/models/stories3m", "quant=rtn", "quant.group_size=64", "kv=kv8"),
            STORIES,
        ),
    ],
    ids=["demo-tokenized-by-the-server", "stories3m", "stories3m-w4-kv8"],
)
def test_lm_eval_finds_what_our_evaluation_finds(
    python: Path, start: Starter, test_data: Path, tmp_path: Path, case: Case
) -> None:
    files = {name: test_data / "eval" / file for name, file in {**CHOICES, **EXACT}.items()}
    for name, file in files.items():
        limit = NUM_CHOICES if name in CHOICES else NUM_EXACT
        write_task(name, file, tmp_path / "tasks", limit)
    deployment = start(*(word.format(data=test_data) for word in case.overrides))
    where = f"base_url={deployment.url}/v1/completions,num_concurrent=8"
    arguments = f"{case.arguments.format(data=test_data)},{where}"
    theirs = lm_eval(python, tmp_path, list(files), arguments)
    planned = httpx.get(f"{deployment.url}/config", trust_env=False).json()["planned"]
    assert deployment.stop() == 0
    details = tmp_path / "details"
    details.mkdir()
    llm = LLM(EngineSettings(**planned))
    ours = evaluate(
        llm,
        Evaluation(tasks={name: files[name] for name in CHOICES}, task_limit=NUM_CHOICES),
        baseline=None,
        details=details,
    )
    evaluate(
        llm,
        Evaluation(tasks={name: files[name] for name in EXACT}, task_limit=NUM_EXACT),
        baseline=None,
        details=details,
    )
    for name in CHOICES:
        score, result = ours.tasks[name], theirs.results[name]
        assert score.items == NUM_CHOICES
        assert score.accuracy == result["acc,none"]
        assert score.accuracy_norm == result["acc_norm,none"]
        assert score.accuracy_bytes == result["acc_bytes,none"]
        assert score.accuracy_standard_error == pytest.approx(result["acc_stderr,none"])
        for own, sample in zip(_rows(details, name), theirs.samples[name], strict=True):
            logprobs = [float(response[0][0]) for response in sample["resps"]]
            assert own["logprobs"] == pytest.approx(logprobs, abs=TOLERANCE)
    for name in EXACT:
        for own, sample in zip(_rows(details, name), theirs.samples[name], strict=True):
            if (
                len(llm.tokenizer.encode(sample["doc"]["prompt"]))
                < int(planned["context_length"]) // 2
            ):
                assert own["completion"] == sample["resps"][0][0]


def _rows(details: Path, name: str) -> list[dict[str, Any]]:
    file = details / f"tasks.{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]
