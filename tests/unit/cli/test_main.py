"""Verbs, statuses and the texts of the command line."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import lmrun
from lmrun.cli import help as texts
from lmrun.cli import main
from lmrun.errors import ExitStatus

VERBS = ", ".join(main.VERBS)

REFUSED = {
    ("plna",): (ExitStatus.USAGE, "plna: no such verb. Did you mean plan?"),
    ("serve", "+recipe=x"): (ExitStatus.USAGE, "serve: no such verb. Did you mean up?"),
    ("xyz",): (ExitStatus.USAGE, f"xyz: no such verb. Verbs: {VERBS}."),
    ("+recipe=w4a16_kv4_server", "plna"): (
        ExitStatus.USAGE,
        "plna: no such verb. Did you mean plan?",
    ),
    ("down", "kv.bits=4"): (
        ExitStatus.REFUSED,
        f"down: not built yet. Verbs that are: {VERBS}.",
    ),
    ("lock", "kv.bits=4,8", "-m"): (
        ExitStatus.USAGE,
        "lock -m: no sweep goes over this verb. Verbs: up, build, eval, bench, plan.",
    ),
    ("-m", "kv.bits=4,8", "--cfg", "job"): (
        ExitStatus.USAGE,
        "--cfg: shows the settings of one point. Leave out -m, or --cfg.",
    ),
    ("bench", "startup", "--multirun"): (
        ExitStatus.USAGE,
        "bench -m: expected settings alone, got 'startup'.",
    ),
    ("-m", "kv.bits=4,8", "--experimental-rerun=x.pickle"): (
        ExitStatus.USAGE,
        "--experimental-rerun: refused, it would run code from a file. Give the overrides.",
    ),
    ("build", "-m", "kv.bits=4,8", "--overlap"): (
        ExitStatus.USAGE,
        "--overlap: is about timing, and build -m times nothing.",
    ),
    ("-m", "kv.bits=4,8", "--html", "no/such/report.html"): (
        ExitStatus.USAGE,
        "--html no/such/report.html: no/such is no folder. Make it, or name another.",
    ),
    ("-m", "kv.bits=4,8", "--verify=full"): (
        ExitStatus.USAGE,
        "--verify: no such flag. Flags here: --choose, --csv, --force, --html, --json,"
        " --multirun, --overlap, --write-recipe, -m.",
    ),
    ("--info", "searchpath"): (
        ExitStatus.REFUSED,
        "--info: not built yet. `--cfg job` prints the composed settings.",
    ),
    ("--experimental-rerun=x.pickle",): (
        ExitStatus.USAGE,
        "--experimental-rerun: refused, it would run code from a file. Give the overrides.",
    ),
    ("--cfg", "hydra"): (ExitStatus.REFUSED, "--cfg hydra: not built yet. job is."),
    ("--cfg", "jobs"): (ExitStatus.USAGE, "--cfg jobs: expected job."),
    ("plan", "--jsn"): (ExitStatus.USAGE, "--jsn: no such flag. Did you mean --json?"),
    ("list", "recipe"): (
        ExitStatus.USAGE,
        "recipe: no such kind. Did you mean recipes? Kinds: recipes, models, quantizers, backends,"
        " devices, chat-templates, artifacts, templates.",
    ),
    ("plan", "kv.bits=5"): (
        ExitStatus.CONFIG,
        "kv.bits=5 (command line): expected one of 4, 8, 16 or 32.",
    ),
    ("kv.bits=5",): (
        ExitStatus.CONFIG,
        "kv.bits=5 (command line): expected one of 4, 8, 16 or 32.",
    ),
    ("parallel.tp=2",): (
        ExitStatus.REFUSED,
        "parallel.tp=2 (command line): not built yet; 1 is.",
    ),
    ("chat", "--max-tokens", "1.5"): (
        ExitStatus.USAGE,
        "--max-tokens: expected a whole number of at least 1, got '1.5'.",
    ),
    ("chat", "--max-tokens=0"): (
        ExitStatus.USAGE,
        "--max-tokens: expected a whole number of at least 1, got '0'.",
    ),
    ("chat", "--temperature", "-1"): (
        ExitStatus.USAGE,
        "--temperature: expected a number from 0 to 2, got '-1'.",
    ),
    ("chat", "--temperature=nan"): (
        ExitStatus.USAGE,
        "--temperature: expected a number from 0 to 2, got 'nan'.",
    ),
    ("chat", "--temperature=hot"): (
        ExitStatus.USAGE,
        "--temperature: expected a number from 0 to 2, got 'hot'.",
    ),
    ("chat", "--api-key", "sk-secret"): (
        ExitStatus.USAGE,
        "--api-key: expected a reference, got a literal key, which would be seen in the process"
        " list. Put it in an environment variable and write '${oc.env:NAME}'.",
    ),
    ("chat", "--url", "ftp://x"): (
        ExitStatus.USAGE,
        "--url: expected an address such as http://127.0.0.1:23333, got 'ftp://x'.",
    ),
    ("chat", "--url", "http://[x"): (
        ExitStatus.USAGE,
        "--url: expected an address such as http://127.0.0.1:23333, got 'http://[x'.",
    ),
    ("chat", "--url", "http://127.0.0.1:99999"): (
        ExitStatus.USAGE,
        "--url: expected an address such as http://127.0.0.1:23333, got 'http://127.0.0.1:99999'.",
    ),
    ("plan", "up"): (ExitStatus.CONFIG, "up (command line): expected KEY=VALUE."),
    ("plan", ""): (ExitStatus.CONFIG, "'' (command line): expected KEY=VALUE."),
    ("plan", "=8"): (ExitStatus.CONFIG, "=8 (command line): expected KEY=VALUE."),
    ("build", "backend.name=vllm"): (
        ExitStatus.REFUSED,
        "backend.name=vllm (command line): not built yet; native is.",
    ),
}


@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_a_wrong_command_ends_in_one_message_and_its_status(
    argv: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    status, text = REFUSED[argv]
    assert main.run(argv) is status
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"lmrun: {text}\n")


@pytest.mark.parametrize("verb", main.PLANNED)
def test_a_planned_verb_is_not_built_yet(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run([verb, "--json"]) is ExitStatus.REFUSED
    assert "not built yet" in capfd.readouterr().err


def test_bare_lmrun_prints_a_short_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) is ExitStatus.OK
    assert capfd.readouterr().out == texts.SHORT


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help"], ["kv.bits=4", "--help"]])
def test_help_names_every_verb(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(argv) is ExitStatus.OK
    out = capfd.readouterr().out
    assert out == texts.FULL
    assert all(f"\n  {verb} " in out for verb in main.VERBS)


@pytest.mark.parametrize("verb", main.VERBS)
def test_each_verb_exists_and_has_a_help(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    module, _, function = main.VERBS[verb].partition(":")
    assert callable(getattr(import_module(module), function))
    assert main.run([verb, "--help"]) is ExitStatus.OK
    said = capfd.readouterr().out
    assert main.run(["help", verb]) is ExitStatus.OK
    assert capfd.readouterr().out == said
    assert main.run([verb, "--help"]) is ExitStatus.OK
    assert capfd.readouterr().out == texts.VERBS[verb]


@pytest.mark.parametrize("verb", ["up", "build", "chat", "schema"])
def test_the_help_of_a_verb_names_its_flags_and_the_dispatcher_knows_them(verb: str) -> None:
    known = import_module(f"lmrun.cli.{verb}").FLAGS
    for flag, takes_a_value in known.items():
        assert f"  {flag} " in texts.VERBS[verb]
        assert main.run([flag, *["x"][: bool(takes_a_value)], verb, "--help"]) is ExitStatus.OK


def test_help_fits_a_terminal() -> None:
    for text in (texts.SHORT, texts.FULL, *texts.VERBS.values()):
        assert max(map(len, text.splitlines())) <= 100
        assert text.endswith("\n")


def test_version_names_lmrun_and_the_engine(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) is ExitStatus.OK
    first, second = capfd.readouterr().out.splitlines()
    assert first == f"lmrun {lmrun.__version__}"
    assert second.startswith("engine ")
    assert "generic" in second


def test_cfg_job_prints_the_composed_settings(capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["plan", "--cfg", "job", "+recipe=w4a16_kv4_server", "kv.bits=8"]
    assert main.run(argv) is ExitStatus.OK
    document = yaml.safe_load(capfd.readouterr().out)
    assert document["quant"] == {
        "method": "awq",
        "bits": 4,
        "group_size": 128,
        "symmetric": False,
        "activation_bits": 16,
        "range": "auto",
        "act_order": True,
        "damping": 0.01,
        "alpha": None,
        "rotate": False,
        "preset": "light",
        "skip": [],
        "format": "auto",
        "device": "auto",
        "activation_memory": "auto",
    }
    assert document["kv"]["bits"] == 8


def test_the_verb_may_stand_after_flags_and_overrides(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--json", "list", "recipes"]) is ExitStatus.OK
    assert capfd.readouterr().out.startswith("{")
    assert main.run(["--cfg", "job", "plan", "kv.bits=5"]) is ExitStatus.CONFIG


def test_an_interrupt_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_load", interrupted)
    assert main.run(["plan"]) is ExitStatus.INTERRUPTED
    assert capfd.readouterr().err == "\nlmrun: interrupted\n"


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.VERBS, "plan", "lmrun.cli.nowhere:run")
    with pytest.raises(ModuleNotFoundError):
        main.run(["plan"])


def _run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("argv", [[], ["--help"], ["plan", "--help"], ["plna"], ["down"]])
def test_help_and_wrong_words_load_neither_hydra_nor_torch(argv: list[str], tmp_path: Path) -> None:
    result = _run(
        f"import sys; from lmrun.cli.main import run; run({argv!r});"
        "heavy = {'hydra', 'omegaconf', 'torch', 'pydantic', 'yaml', 'numpy'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("argv", [["plan", "+recipe=w4a16_kv4_server"], ["list"]])
def test_plan_and_list_load_no_torch_and_write_nothing(argv: list[str], tmp_path: Path) -> None:
    result = _run(
        f"import sys; from lmrun.cli.main import run; assert run({argv!r}) == 0;"
        "heavy = {'torch', 'transformers', 'gradio', 'ray', 'hydra_plugins'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert list(tmp_path.iterdir()) == []
    assert list(Path(os.environ["LMRUN_HOME"]).iterdir()) == []
