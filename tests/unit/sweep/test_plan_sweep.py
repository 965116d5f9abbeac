"""`lmrun plan -m`: the points of a sweep, and nothing written."""

import json
from pathlib import Path

import jsonschema
import pytest

from lmrun import env
from lmrun.cli import main
from lmrun.errors import ExitStatus
from lmrun.sweep import plan_table

WORDS = ("plan", "-m", "model=random_llama", "kv.bits=16,5", "quant.method=none,rtn")
TWICE = ("quant.group_size=32,64", "evaluate=none")


def test_the_points_stand_in_a_table_and_what_cannot_be_run_below_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run([*WORDS, *TWICE]) is ExitStatus.OK
    out, err = capsys.readouterr()
    lines = out.splitlines()
    heads = "kv.bits quant.method quant.group_size stages to run memory weights KV cache"
    assert " ".join(lines[0].split()) == heads
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["1", "16", "none", "32"],
        ["3", "16", "rtn", "32"],
        ["4", "16", "rtn", "64"],
    ]
    assert "resolve, quantize, convert" in lines[2]
    assert lines[4:7] == [
        "",
        "cannot be run",
        "5  kv.bits=5 quant.method=none quant.group_size=32: kv.bits=5 (command line): expected one"
        " of 4, 8, 16 or 32.",
    ]
    assert lines[-1] == "7 points; 1 more means the same as one of them; 4 cannot be run"
    assert err == ""
    assert list(env.home().iterdir()) == list(Path.cwd().iterdir()) == []


def test_a_load_that_cannot_be_sent_is_listed_below(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("plan", "-m", "model=random_llama", "evaluate=none", "bench.prompt_tokens=64,3000")
    assert main.run(words) is ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        "cannot be run",
        "2  bench.prompt_tokens=3000: bench.prompt_tokens=3000 (command line): with"
        " bench.output_tokens=32 a request has 3032 tokens, the context 2048. Lower one of them.",
        "",
        "2 points; 1 cannot be run",
    ]
    assert main.run([*words[:-1], "bench.prompt_tokens=3000"]) is ExitStatus.REFUSED


def test_the_document_fits_its_schema_and_says_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run([*WORDS, *TWICE, "--json"]) is ExitStatus.OK
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, plan_table.SCHEMA)
    first, *_, last = document["points"]
    assert first["point"]["keys"] == {
        "kv.bits": 16,
        "quant.method": "none",
        "quant.group_size": 32,
    }
    assert [stage["name"] for stage in first["stages"]] == ["resolve", "convert"]
    assert first["memory"]["total_bytes"] > first["memory"]["kv_bytes"] > 0
    assert (last["why_not"], last["memory"], last["stages"]) == (
        "kv.bits=5 (command line): expected one of 4, 8, 16 or 32.",
        None,
        [],
    )
    assert document["merged"] == [
        {
            "settings": "kv.bits=16 quant.method=none quant.group_size=64",
            "into": first["point"]["id"],
        }
    ]


@pytest.mark.parametrize("words", [(), ("+recipe=glob(x*)",), ("kv.bits=range(1,1)",)])
@pytest.mark.parametrize("verb", ["up", "plan", "build", "eval", "bench"])
def test_an_empty_sweep_is_an_error_and_leaves_nothing(
    verb: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([verb, "-m", *words]) is ExitStatus.CONFIG
    assert (
        capsys.readouterr()
        .err.rstrip()
        .endswith(("The sweep is empty.", "Write lmrun -m +recipe=NAME kv.bits=16,8,4."))
    )
    assert list(env.home().iterdir()) == []
