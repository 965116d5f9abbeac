"""`lmrun bench`: what it takes, refuses and prints."""

import json
from pathlib import Path

import jsonschema
import pytest

from lmrun.cli import main
from lmrun.cli.schema import document
from lmrun.errors import ExitStatus
from unit.bench.someone_elses import patient, serving
from unit.bench.test_serving_url import ASKED, dying

LOAD = ["bench.prompt_tokens=20", "bench.output_tokens=3", "bench.requests=3", "bench.rounds=1"]


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real bench may run beside these tests."""
    from lmrun.bench import alone

    monkeypatch.setattr(alone, "lock_file", lambda: tmp_path / "lock" / alone.LOCK_NAME)


def test_a_server_is_measured_and_the_last_line_is_the_document(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serving(patient()) as theirs:
        assert main.run(["bench", "--url", theirs.url, *LOAD]) is ExitStatus.OK
    *shown, last = capfd.readouterr().out.splitlines()
    report = json.loads(last)
    jsonschema.Draft202012Validator(document("bench")).validate(report)
    assert shown[0] == "bench     theirs: prompts of 20 tokens, completions of 3, 1 round"
    assert [load["concurrency"] for load in report["loads"]] == [1, 4]
    assert report["asked"]["requests"] == 3


def test_json_prints_the_document_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(patient()) as theirs:
        words = ["bench", "--json", "--url", f"{theirs.url}/v1", *LOAD, "bench.concurrency=[2]"]
        assert main.run(words) is ExitStatus.OK
    (line,) = capfd.readouterr().out.splitlines()
    assert [load["concurrency"] for load in json.loads(line)["loads"]] == [2]


def test_a_bench_that_ended_early_is_status_5_and_prints_what_it_has(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serving(dying(ASKED + 4 + 3)) as theirs:
        status = main.run(["bench", "--json", "--url", theirs.url, *LOAD])
    assert status is ExitStatus.STAGE_FAILED
    found = capfd.readouterr()
    report = json.loads(found.out)
    jsonschema.Draft202012Validator(document("bench")).validate(report)
    assert (report["complete"], report["loads"][0]["requests"]) == (False, 3)
    assert found.err.endswith(f"lmrun: bench: {report['problem']}\n")


def test_a_recipe_beside_a_url_says_what_is_sent(capfd: pytest.CaptureFixture[str]) -> None:
    recipe = Path("recipes/load.yaml")
    recipe.parent.mkdir()
    recipe.write_text("bench: {output_tokens: 2, concurrency: [1], requests: 2, rounds: 1}\n")
    with serving(patient()) as theirs:
        assert main.run(["bench", "+recipe=load", "--url", theirs.url]) is ExitStatus.OK
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["asked"]["output_tokens"] == 2


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (
            ["gpu"],
            ExitStatus.REFUSED,
            "bench gpu: not built yet. Of these words, startup, engine, quantize, quality are.",
        ),
        (
            ["--url", "http://127.0.0.1:1", "kv.bits=8"],
            ExitStatus.USAGE,
            "bench: --url and kv.bits=8 exclude each other. The server has its own settings;"
            " bench=..., bench.KEY=... and a recipe that sets them may stand beside it.",
        ),
        (
            ["--url", "localhost:80"],
            ExitStatus.USAGE,
            "--url: expected an address such as http://127.0.0.1:23333, got 'localhost:80'.",
        ),
        (
            ["--url", "http://127.0.0.1:1", "--api-key", "sk-1"],
            ExitStatus.USAGE,
            "--api-key: expected a reference, got a literal key, which would be seen in the process"
            " list. Put it in an environment variable and write '${oc.env:NAME}'.",
        ),
        (
            ["--api-key", "${oc.env:KEY}"],
            ExitStatus.USAGE,
            "--api-key: only a server behind --url takes it.",
        ),
        (["--runs", "3"], ExitStatus.USAGE, "--runs: only lmrun bench startup takes it."),
        (
            ["startup", "--url", "http://127.0.0.1:1"],
            ExitStatus.USAGE,
            "--url: only lmrun bench without that word takes it.",
        ),
        (
            ["bench.rounds=0"],
            ExitStatus.CONFIG,
            "bench.rounds=0 (command line): expected a whole number of at least 1.",
        ),
        (
            ["bench.concurrency=[]"],
            ExitStatus.CONFIG,
            "bench.concurrency=[] (command line): expected a level, got none. Such as [1,4].",
        ),
        (
            ["bench.trace=none.csv"],
            ExitStatus.CONFIG,
            "bench.trace=none.csv (command line): expected a CSV file, got No such file or"
            " directory.",
        ),
        (
            ["bench.prompt_tokens=2048", "model=random_llama", "quant=none"],
            ExitStatus.REFUSED,
            "bench.prompt_tokens=2048 (command line): with bench.output_tokens=32 a request has"
            " 2080 tokens, the context 2048. Lower one of them.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(
    words: list[str], status: ExitStatus, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["bench", *words]) is status
    assert capfd.readouterr().err.splitlines()[-1] == f"lmrun: {message}"
