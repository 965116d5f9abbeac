"""Tab in real shells."""

import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from lmrun.cli import bench, export, main, store
from lmrun.cli import help as texts
from lmrun.cli import list as listing
from lmrun.cli.candidates import ARGUMENTS, FLAG_VALUES, candidates
from lmrun.config import keys
from lmrun.errors import ExitStatus

SCRIPTS = Path(sys.executable).parent
CPU_S = 0.3

LINES: dict[str, list[str]] = {
    "lmrun pl": ["plan"],
    "lmrun plan +recipe=w4": ["+recipe=w4a16_kv4_server"],
    "lmrun plan recipe=w4": ["recipe=w4a16_kv4_server"],
    "lmrun '+recipe=[w16_kv16_server,w4": ["+recipe=[w16_kv16_server,w4a16_kv4_server"],
    "lmrun plan quant=awq_w4_g1": ["quant=awq_w4_g128"],
    "lmrun plan quant.": [f"quant.{leaf}=" for leaf in keys.groups()["quant"]],
    "lmrun quant.method=aw": ["quant.method=awq", "quant.method=awq_gptq"],
    "lmrun export quantiz": ["quantize"],
    "lmrun up kv.prefix_caching=": ["kv.prefix_caching=true", "kv.prefix_caching=false"],
    "lmrun build model.path=builtin:random-llama-": [
        "model.path=builtin:random-llama-1b",
        "model.path=builtin:random-llama-1b-8k",
    ],
    "lmrun build model.chat_template=c": ["model.chat_template=chatml"],
    "lmrun plan --js": ["--json"],
    "lmrun plan --log-format ": ["text", "json"],
    "lmrun plan --log-format=j": ["--log-format=json"],
    "lmrun --events ": [],
    "lmrun --events plan pl": ["plan"],
    "lmrun list rec": ["recipes"],
    "lmrun list kv.": [],
    "lmrun schema rec": ["recipe"],
    "lmrun plan frontend.port=": [],
    "lmrun plan nothing.": [],
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_goes_on_with_what_is_legal(line: str) -> None:
    assert candidates(line) == LINES[line]


def test_the_first_word_may_be_a_verb_a_group_or_a_recipe() -> None:
    found = candidates("lmrun ")
    assert set(main.VERBS) < set(found)
    assert {"+recipe=", "quant=", "kv."} < set(found)
    assert "+recipe=" in candidates("lmrun plan ")
    assert "plan" not in candidates("lmrun plan ")


def test_the_users_own_recipes_options_and_models_are_offered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for file in ("recipes/mine.yaml", "configs/kv/small.yaml"):
        Path(file).parent.mkdir(parents=True)
        Path(file).write_text("{}")
    (tmp_path / "llama").mkdir()
    monkeypatch.setenv("LMRUN_MODELS", str(tmp_path))
    assert candidates("lmrun +recipe=m") == ["+recipe=mine"]
    assert candidates("lmrun plan kv=s") == ["kv=small"]
    assert candidates("lmrun plan model.path=l") == ["model.path=llama"]


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_flag_of_a_verb_is_offered(verb: str) -> None:
    module = import_module(main.VERBS[verb].partition(":")[0])
    flags = set(getattr(module, "FLAGS", {}))
    assert flags <= set(candidates(f"lmrun {verb} -"))


def test_only_real_verbs_and_flags_are_described() -> None:
    assert set(ARGUMENTS) - {*main.VERBS, *main.PLANNED} == set()
    everything = "".join([texts.FULL, *texts.VERBS.values()])
    assert [flag for flag in FLAG_VALUES if flag not in everything and flag != "-c"] == []


def test_the_words_of_verbs_are_those_that_they_take() -> None:
    assert set(ARGUMENTS["store"]) == set(store.COMMANDS)
    assert set(ARGUMENTS["list"]) == set(listing.KINDS)
    assert set(ARGUMENTS["export"]) == set(export.STAGES)
    assert set(ARGUMENTS["bench"]) == {bench.STARTUP}


def test_a_broken_setting_gives_no_candidates_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "getcwd", _gone)
    assert main.run(["completion", "words", "--", "lmrun +recipe="]) is ExitStatus.OK
    assert capfd.readouterr() == ("", "")


def _gone() -> str:
    raise FileNotFoundError(2, "No such file or directory")


def test_tab_costs_little_and_loads_no_hydra() -> None:
    code = (
        "import sys; from lmrun.cli.main import run;"
        " run(['completion', 'words', '--', 'lmrun plan quant=']);"
        " heavy = {'hydra', 'omegaconf', 'pydantic', 'torch', 'jinja2', 'rich'} & set(sys.modules);"
        " sys.exit(str(heavy) if heavy else 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "quant=none" in done.stdout.split()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < 2 * CPU_S  # 0.1 on a quiet core


BASH = """
source <(lmrun completion bash)
complete -p lmrun
for COMP_LINE in "$@"; do
  COMP_POINT=${#COMP_LINE}
  COMPREPLY=()
  _lmrun lmrun
  echo "${COMPREPLY[*]}"
done
"""


def test_bash_gets_what_follows_the_sign_that_breaks_its_words() -> None:
    lines = ["lmrun pla", "lmrun plan quant=awq_w4_g1", "lmrun plan model.path=builtin:random_", ""]
    lines[2] = "lmrun plan model.path=builtin:random-llama-"
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", *lines[:3]],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o default -F _lmrun lmrun",
        "plan",
        "awq_w4_g128",
        "random-llama-1b random-llama-1b-8k",
    ]


def test_bash_offers_whole_words_where_the_sign_breaks_none() -> None:
    code = "COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:]/}\n" + BASH
    done = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", "lmrun plan quant=awq_w4_g1"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.splitlines()[1:] == ["quant=awq_w4_g128"]


TYPED = {
    "lmrun schema eve\t": "lmrun schema events ",
    "lmrun plan quant=awq_w4_g1\t": "lmrun plan quant=awq_w4_g128 ",
    "lmrun plan quant.met\t": "lmrun plan quant.method=",
    "lmrun plan +recipe=w4\t": "lmrun plan +recipe=w4a16_kv4_server ",
    "lmrun plan model.path=here_i\t": "lmrun plan model.path=here_is_a_model/",
}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_real_shell_completes_after_one_command(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on the path")
    subprocess.run(
        ["lmrun", "completion", "install", shell],
        env=environment(HOME=str(tmp_path)),
        check=True,
        capture_output=True,
    )
    Path("here_is_a_model").mkdir()
    for typed, expected in TYPED.items():
        assert completed(shell, typed, tmp_path) == expected


def completed(shell: str, typed: str, home: Path) -> str:
    """The line after Tab, as the shell itself prints it back."""
    words = {"bash": ["bash", "--noprofile", "-i"], "zsh": ["zsh", "-i"]}[shell]
    variables = environment(HOME=str(home), PS1="$ ", TERM="dumb", INPUTRC="/dev/null")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(words[0], words, variables)
    try:
        os.write(terminal, b"PS1='> '; unsetopt zle_bracketed_paste prompt_sp 2>/dev/null\n")
        os.write(terminal, b"echo be''gin\n")
        read_until(terminal, "begin\r\n")
        # Ctrl-A puts a word before the line, so that Enter prints it instead of running it.
        os.write(terminal, typed.encode())
        os.write(terminal, b"%\x01echo '\x05'\n")
        return read_until(terminal, "%\r\n").rpartition("\n")[2].removesuffix("%")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def read_until(terminal: int, text: str) -> str:
    """What the terminal shows, up to the text."""
    seen = ""
    deadline = time.monotonic() + 20
    while not seen.endswith(text) and text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 4096).decode()
    return seen[: seen.index(text) + len(text)].removesuffix("\r\n")


def environment(**changes: str) -> dict[str, str]:
    """This process's, with the console script on the path."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    return {**kept, "PATH": path, **changes}


def test_installing_twice_leaves_one_line_and_undoing_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    start = tmp_path / ".bashrc"
    start.write_text("alias x=y")
    start.chmod(0o600)
    script = tmp_path / ".local" / "share" / "lmrun" / "completion.bash"
    for _ in range(2):
        assert main.run(["completion", "install"]) is ExitStatus.OK
    line = f"[ -f '{script}' ] && . '{script}'  # lmrun completion\n"
    assert start.read_text() == f"alias x=y\n{line}"
    assert start.stat().st_mode & 0o777 == 0o600
    assert script.is_file()
    text = (
        f"wrote {script}\n"
        f"and one line to {start}; it works in the next shell you open.\n"
        "To undo it: lmrun completion uninstall bash\n"
    )
    assert capfd.readouterr().out == 2 * text
    assert main.run(["completion", "uninstall"]) is ExitStatus.OK
    assert capfd.readouterr().out == f"removed {script} and its line in {start}\n"
    assert start.read_text() == "alias x=y\n"
    assert not script.exists()


REFUSED = {
    (): "completion: expected bash, zsh, install [SHELL] or uninstall [SHELL].",
    ("fish",): "completion: expected bash, zsh, install [SHELL] or uninstall [SHELL].",
    ("install",): "completion: expected one of bash, zsh, got 'fish'. Name one.",
    ("install", "csh"): "completion: expected one of bash, zsh, got 'csh'. Name one.",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_another_shell_is_refused(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main.run(["completion", *words]) is ExitStatus.USAGE
    assert capfd.readouterr().err == f"lmrun: {REFUSED[words]}\n"
