"""`lmrun completion`: Tab in bash and zsh."""

import os
import sys
from pathlib import Path

import platformdirs

from lmrun.cli.candidates import candidates
from lmrun.cli.flags import split
from lmrun.errors import ExitStatus, LmrunError, StageError, UsageError

SHELLS = ("bash", "zsh")
MARK = "# lmrun completion"
_SCRIPTS = Path(__file__).parent / "completions"


def run(argv: list[str]) -> ExitStatus:
    """Print a shell's script, install it, or (what the script calls) list candidates."""
    if argv[:2] == ["words", "--"]:
        return _words(argv[2:])
    _, words = split(argv, {})
    if len(words) == 1 and words[0] in SHELLS:
        sys.stdout.write(_script(words[0]))
        return ExitStatus.OK
    if words and words[0] in ("install", "uninstall") and len(words) <= 2:
        shell = _shell(words[1:])
        return _install(shell) if words[0] == "install" else _uninstall(shell)
    raise UsageError("completion: expected bash, zsh, install [SHELL] or uninstall [SHELL].")


def _words(line: list[str]) -> ExitStatus:
    """Nothing but candidates, one a line: a shell in the middle of a line shows no errors."""
    try:
        found = candidates(line[0] if line else "")
    except (LmrunError, OSError):
        found = []
    sys.stdout.write("".join(f"{word}\n" for word in found))
    return ExitStatus.OK


def _script(shell: str) -> str:
    return (_SCRIPTS / f"lmrun.{shell}").read_text("utf-8")


def _shell(named: list[str]) -> str:
    shell = named[0] if named else Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        got = f"got {shell!r}" if shell else "SHELL is not set"
        raise UsageError(f"completion: expected one of {', '.join(SHELLS)}, {got}. Name one.")
    return shell


def _start_file(shell: str) -> Path:
    if shell == "zsh":
        return Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"
    return Path.home() / ".bashrc"


def _script_file(shell: str) -> Path:
    return Path(platformdirs.user_data_dir("lmrun", appauthor=False)) / f"completion.{shell}"


def _line(shell: str) -> str:
    path = _script_file(shell)
    return f"[ -f '{path}' ] && . '{path}'  {MARK}\n"


def _install(shell: str) -> ExitStatus:
    """Write the script to the user's data folder, and one line to what the shell reads first."""
    start, script = _start_file(shell), _script_file(shell)
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(_script(shell), "utf-8")
        others = _other_lines(start)
        if others and not others.endswith("\n"):
            others += "\n"
        _replace(start, others + _line(shell))
    except OSError as error:
        raise StageError(f"completion: cannot be installed: {error}.") from error
    sys.stdout.write(
        f"wrote {script}\n"
        f"and one line to {start}; it works in the next shell you open.\n"
        f"To undo it: lmrun completion uninstall {shell}\n"
    )
    return ExitStatus.OK


def _uninstall(shell: str) -> ExitStatus:
    start, script = _start_file(shell), _script_file(shell)
    try:
        if start.is_file() and MARK in start.read_text("utf-8"):
            _replace(start, _other_lines(start))
        script.unlink(missing_ok=True)
    except OSError as error:
        raise StageError(f"completion: cannot be taken away: {error}.") from error
    sys.stdout.write(f"removed {script} and its line in {start}\n")
    return ExitStatus.OK


def _other_lines(start: Path) -> str:
    """The file's text without our line."""
    if not start.is_file():
        return ""
    lines = start.read_text("utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.rstrip().endswith(MARK))


def _replace(path: Path, text: str) -> None:
    """Write aside, then rename; a link to the real file stays one."""
    target = path.resolve()
    aside = target.with_name(f"{target.name}.lmrun")
    aside.write_text(text, "utf-8")
    if target.exists():
        aside.chmod(target.stat().st_mode & 0o777)
    aside.replace(target)
