"""The verbs that only look import nothing heavy and leave nothing behind. No time is asserted:
`lmrun bench startup` prints it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from lmrun.cli import bench as verb
from lmrun.cli import main
from lmrun.errors import ExitStatus

HEAVY = (
    *("torch", "transformers", "gradio", "ray", "huggingface_hub", "pandas", "numpy", "scipy"),
    *("safetensors", "tokenizers", "fastapi", "uvicorn", "httpx", "rich", "psutil", "asyncio"),
    *("pydantic", "jsonschema", "hydra_plugins", "lmrun._engine", "importlib.metadata"),
)
COMMANDS = {
    "--help": ["--help"],
    "plan": ["plan", "+recipe=w4a16_kv4_server"],
    "explain": ["explain", "--all", "+recipe=w4a16_kv4_server"],
    "diff": ["diff", "+recipe=w4a16_kv4_server", "--", "+recipe=w16_kv16_server"],
    "list": ["list"],
}
PROBE = (
    "import sys\nfrom lmrun.cli import main\nstatus = main.run(sys.argv[2:])\n"
    "found = [name for name in sys.argv[1].split(',') if name in sys.modules]\n"
    "sys.stderr.write(f'{int(status)} {found}')\n"
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_verb_that_only_looks_imports_nothing_heavy(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, ",".join(HEAVY), *COMMANDS[name]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == "0 []"
    assert result.stdout
    assert list(Path.cwd().iterdir()) == []
    assert not Path(os.environ["LMRUN_HOME"], "artifacts").exists()


def test_bench_startup_prints_cpu_time_and_imports_and_ends_in_json(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["bench", "startup", "--runs", "1", "kv.bits=8"]) is ExitStatus.OK
    *table, last = capfd.readouterr().out.splitlines()
    document = json.loads(last)
    jsonschema.validate(document, {"required": ["schema_version", "runs", "goal_s", "commands"]})
    assert table[0] == "CPU seconds, user and system, least of 1; the goal is 0.5"
    assert [line.split()[:2] for line in table[1:]] == [
        ["lmrun", "--help"],
        ["lmrun", "list"],
        ["lmrun", "explain"],
        ["lmrun", "plan"],
        ["lmrun", "diff"],
    ]
    plan = next(row for row in document["commands"] if row["command"][0] == "plan")
    assert plan["command"] == ["plan", "kv.bits=8"]
    assert plan["cpu_s"] > 0
    assert "hydra" in plan["imports_ms"]


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (
            ["bench", "decode"],
            ExitStatus.REFUSED,
            "bench decode: not built yet. Of these words, startup, engine, quantize, quality are.",
        ),
        (
            ["bench", "startup", "--runs", "0"],
            ExitStatus.USAGE,
            f"--runs: expected a number from 1 to {verb.MOST_RUNS}, got '0'.",
        ),
        (
            ["bench", "startup", "--runs=1", "kv.bits=5"],
            ExitStatus.CONFIG,
            "kv.bits=5 (command line): expected one of 4, 8, 16 or 32.",
        ),
    ],
)
def test_what_bench_cannot_time_is_refused(
    argv: list[str], status: ExitStatus, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(argv) is status
    assert capfd.readouterr().err == f"lmrun: {message}\n"
