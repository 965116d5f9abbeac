"""Task files written as tasks of lm-eval."""

import json
from pathlib import Path

import pytest
import yaml

from lmrun.errors import ArtifactError
from lmrun.evals.lm_eval_tasks import main, write_task

ARC = {
    "question": {
        "stem": "What is wet?",
        "choices": [{"text": "fire", "label": "A"}, {"text": "water", "label": "B"}],
    },
    "answerKey": "B",
}


def write(path: Path, *items: object) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def test_choices_keep_their_prompts_choices_and_answers(tmp_path: Path) -> None:
    file = write_task("arc", write(tmp_path / "a.jsonl", ARC, ARC), tmp_path / "out", limit=1)
    document = yaml.safe_load(file.read_text())
    data = Path(document["dataset_kwargs"]["data_files"]["test"])
    assert (document["task"], document["output_type"]) == ("lmrun_arc", "multiple_choice")
    assert [metric["metric"] for metric in document["metric_list"]] == [
        *("acc", "acc_norm", "acc_bytes")
    ]
    assert data == tmp_path / "out" / "lmrun_arc.jsonl"
    assert [json.loads(line) for line in data.read_text().splitlines()] == [
        {
            "prompt": "Question: What is wet?\nAnswer:",
            "choices": ["fire", "water"],
            "answer": 1,
        }
    ]


def test_exact_answers_keep_their_stop_texts(tmp_path: Path) -> None:
    items = [{"prompt": "1+1=", "answer": "2", "stop": [";"]}] * 2
    document = yaml.safe_load(
        write_task("sums", write(tmp_path / "s.jsonl", *items), tmp_path).read_text()
    )
    assert document["output_type"] == "generate_until"
    assert document["generation_kwargs"]["until"] == [";"]
    assert document["generation_kwargs"]["temperature"] == 0
    mixed = [items[0], {"prompt": "1+1=", "answer": "2"}]
    with pytest.raises(ArtifactError) as caught:
        write_task("sums", write(tmp_path / "s.jsonl", *mixed), tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 's.jsonl'}: expected the same `stop` in every item, since a task of lm-eval"
        " has one; got 2. Write a file for each."
    )


def test_the_command_says_what_it_wrote_and_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.jsonl", ARC)
    out = tmp_path / "out"
    assert main([str(out), f"one={source}", f"two={source}"]) == 0
    assert capsys.readouterr().out == f"{out / 'lmrun_one.yaml'}\n{out / 'lmrun_two.yaml'}\n"
    assert main([str(out), "a-b=x"]) == 2
    assert main([str(out), f"one={source}", "--limit", "0"]) == 2
    assert main([str(out), f"one={tmp_path / 'none.jsonl'}"]) == 5
    assert capsys.readouterr().err.splitlines() == [
        "lmrun: a-b=x: expected NAME=FILE, NAME of letters, digits and underscores.",
        "lmrun: --limit: expected a number from 1 on, got 0.",
        f"lmrun: {tmp_path / 'none.jsonl'}: cannot be read: No such file or directory.",
    ]
