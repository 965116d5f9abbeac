"""`lmrun build` and `lmrun chat` as a user meets them."""

import os
import pty
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.deployment import START_S, Starter, command, free_port, run


def test_build_prints_the_workspace_and_chat_answers_piped_lines(home: Path) -> None:
    built = run(home, "build", "model=random_llama", "quant=none")
    assert built.returncode == 0
    assert (Path(built.stdout.strip()) / "model.json").is_file()
    words = ("chat", "model=random_llama", "quant=none", "--max-tokens=8", "--temperature=0")
    once = run(home, *words, stdin="hello\n")
    assert (once.returncode, bool(once.stdout.strip())) == (0, True)
    thrice = run(home, *words, stdin="hello\n/reset\n\nhello\n/exit\nnever\n")
    assert thrice.stdout == once.stdout * 2
    assert "The conversation is forgotten." in thrice.stderr


def test_chat_talks_to_a_server(start: Starter, home: Path) -> None:
    deployment = start()
    done = run(home, "chat", "--url", deployment.url, "--max-tokens=8", stdin="hello\n")
    assert (done.returncode, bool(done.stdout.strip())) == (0, True)
    nobody = f"http://127.0.0.1:{free_port()}"
    done = run(home, "chat", "--url", nobody, stdin="hello\n")
    assert done.returncode == 5
    assert done.stderr == f"lmrun: {nobody}: cannot be reached. Is the deployment running?\n"


def test_a_model_without_a_chat_template_continues_the_text_and_says_so(
    home: Path, test_data: Path
) -> None:
    model = f"model.path={test_data / 'models' / 'stories260k'}"
    words = ("chat", model, "quant=none", "--max-tokens=20", "--temperature=0")
    done = run(home, *words, stdin="Once upon a time\nLily saw\n")
    assert done.returncode == 0
    assert done.stdout.startswith(", there was a little girl named Lily.")
    note = "note: this model has no chat template; each message is continued as plain text.\n"
    assert done.stderr.count(note) == 1


@pytest.mark.parametrize("verb", ["up", "build", "chat"])
def test_a_model_without_a_tokenizer_is_refused_before_anything_is_built(
    verb: str, home: Path, test_data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    left_out = shutil.ignore_patterns("tokenizer*")
    shutil.copytree(test_data / "models" / "stories260k", model, ignore=left_out)
    before = sorted(home.rglob("*"))
    done = run(home, verb, f"model.path={model}", f"frontend.port={free_port()}")
    assert (done.returncode, done.stdout, done.stderr) == (
        4,
        "",
        f"lmrun: {model} (model.path, command line): expected tokenizer.json, found none. lmrun"
        " reads fast tokenizers only;"
        " write one with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`.\n",
    )
    assert sorted(home.rglob("*")) == before


def test_flags_of_a_server_and_overrides_exclude_each_other(home: Path) -> None:
    done = run(home, "chat", "--url", "http://127.0.0.1:1", "kv.bits=8")
    assert (done.returncode, done.stderr) == (
        2,
        "lmrun: chat: --url and kv.bits=8 exclude each other. The server has its own settings.\n",
    )


class Terminal:
    """`lmrun` at a terminal of its own."""

    def __init__(self, home: Path, *words: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(command()[0], command(*words), {**os.environ, "LMRUN_HOME": str(home)})
        self.text = ""

    def type(self, text: str) -> None:
        """Keys pressed."""
        os.write(self._fd, text.encode())

    def expect(self, text: str) -> None:
        """Read until the text has come, and forget what stood before its end."""
        deadline = time.monotonic() + START_S
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._fd], [], [], 0.1)[0]:
                self.text += os.read(self._fd, 4096).decode(errors="replace")
        self.text = self.text.partition(text)[2]

    def press_until(self, key: str, text: str) -> None:
        """Press a key until the text comes: Python's `input` misses a signal that comes between
        its prompt and its wait, until the next key."""
        for _ in range(round(START_S)):
            self.type(key)
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                if select.select([self._fd], [], [], 0.1)[0]:
                    self.text += os.read(self._fd, 4096).decode(errors="replace")
                if text in self.text:
                    return self.expect(text)
        raise AssertionError(self.text)

    def status(self) -> int:
        """Exit status, once it ended."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    """`lmrun chat` with the slow reference kernels; greedy "hello" runs on and on."""
    yield Terminal(
        home,
        *("chat", "model=random_llama", "quant=none", "backend.isa=generic"),
        *("--max-tokens=1900", "--temperature=0"),
    )


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of forkpty:DeprecationWarning")
def test_ctrl_c_stops_the_reply_and_ctrl_d_ends_the_chat(terminal: Terminal) -> None:
    terminal.expect("/reset forgets the conversation")
    terminal.expect("> ")
    terminal.type("hello\n")
    terminal.expect("mmmm")
    terminal.type("\x03")
    terminal.expect("(stopped)")
    terminal.expect("> ")
    terminal.press_until("\x03", "(/exit or Ctrl-D ends)")
    terminal.expect("> ")
    terminal.type("\x04")
    assert terminal.status() == 0
