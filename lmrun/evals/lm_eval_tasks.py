"""Task files as tasks of lm-eval, for its command line: the same prompts, choices and answers.

    python -m lmrun.evals.lm_eval_tasks FOLDER NAME=FILE... [--limit N]

writes `lmrun_NAME.jsonl` and `lmrun_NAME.yaml` for each file into FOLDER, which
`lm-eval run --include_path FOLDER --tasks lmrun_NAME` reads. Facts of lm-eval are of its version
0.4.13.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lmrun.errors import ArtifactError, ExitStatus, LmrunError, UsageError
from lmrun.evals.task_files import Choices, Exact, Item, Task, read_task
from lmrun.evals.task_scores import DELIMITER, MAX_TOKENS

PREFIX = "lmrun_"
"""Keeps names apart from lm-eval's own tasks."""
_MEAN = {"aggregation": "mean", "higher_is_better": True}
_CHOICE_METRICS = ("acc", "acc_norm", "acc_bytes")
_IGNORED_IN_NUMBERS = [",", r"\$", r"(?s).*#### ", r"\.$"]
_NUMBER = {"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"}
_STRIPPED = {"function": "regex", "regex_pattern": r"^\s*([\s\S]*?)\s*$"}


def write_task(name: str, path: Path, folder: Path, limit: int | None = None) -> Path:
    """The YAML file of a task made of the first ``limit`` items of a task file.

    `ArtifactError` where the file is no task file, or says what lm-eval cannot be told.
    """
    task = read_task(path, limit)
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{PREFIX}{name}.jsonl"
    lines = [json.dumps(_fields(item), ensure_ascii=False) + "\n" for item in task.items]
    data.write_text("".join(lines), encoding="utf-8")
    file = folder / f"{PREFIX}{name}.yaml"
    document = {
        "task": PREFIX + name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        **(_choices() if task.is_choices else _exact(path, task)),
        "metadata": {"version": task.digest[:12]},
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def _fields(item: Item) -> dict[str, Any]:
    if isinstance(item, Choices):
        return {"prompt": item.prompt, "choices": list(item.choices), "answer": item.answer}
    return {"prompt": item.prompt, "answer": item.answer}


def _choices() -> dict[str, Any]:
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "target_delimiter": DELIMITER,
        "metric_list": [{"metric": metric, **_MEAN} for metric in _CHOICE_METRICS],
    }


def _exact(path: Path, task: Task) -> dict[str, Any]:
    stops = {item.stop for item in task.items if isinstance(item, Exact)}
    if len(stops) > 1:
        raise ArtifactError(
            f"{path}: expected the same `stop` in every item, since a task of lm-eval has one;"
            f" got {len(stops)}. Write a file for each."
        )
    is_number = task.format == "gsm8k"
    metric: dict[str, Any] = {"metric": "exact_match", **_MEAN}
    if is_number:
        metric |= {"ignore_case": True, "regexes_to_ignore": _IGNORED_IN_NUMBERS}
    found = _NUMBER if is_number else _STRIPPED
    return {
        "output_type": "generate_until",
        "generation_kwargs": {
            "until": list(stops.pop()),
            "max_gen_toks": MAX_TOKENS,
            "do_sample": False,
            "temperature": 0.0,
        },
        "filter_list": [
            {
                "name": "flexible-extract" if is_number else "stripped",
                "filter": [found, {"function": "take_first"}],
            }
        ],
        "metric_list": [metric],
    }


def main(argv: Sequence[str] | None = None) -> ExitStatus:
    """Entry point; prints the names of the files that it wrote."""
    parser = argparse.ArgumentParser(
        prog="python -m lmrun.evals.lm_eval_tasks", description="Task files as tasks of lm-eval."
    )
    parser.add_argument("folder", type=Path, help="where the tasks are written")
    parser.add_argument("tasks", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--limit", type=int, help="the first so many items of each file")
    arguments = parser.parse_args(argv)
    try:
        if arguments.limit is not None and arguments.limit < 1:
            raise UsageError(f"--limit: expected a number from 1 on, got {arguments.limit}.")
        for word in arguments.tasks:
            name, equals, file = word.partition("=")
            if not (equals and file and name.isidentifier()):
                raise UsageError(
                    f"{word}: expected NAME=FILE, NAME of letters, digits and underscores."
                )
            written = write_task(name, Path(file), arguments.folder, arguments.limit)
            sys.stdout.write(f"{written}\n")
    except LmrunError as error:
        sys.stderr.write(f"lmrun: {error}\n")
        return error.status
    return ExitStatus.OK


if __name__ == "__main__":
    raise SystemExit(main())
