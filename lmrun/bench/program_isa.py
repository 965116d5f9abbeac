"""Which instruction sets a program was built with, by the instructions in it."""

import re
import shutil
import subprocess
from pathlib import Path

_SIGNS = (
    ("AVX2", re.compile(rb"%ymm")),
    ("AVX-512", re.compile(rb"%zmm")),
    ("VNNI", re.compile(rb"\tvpdpbusds? ")),
    ("BF16", re.compile(rb"\tvdpbf16ps ")),
    ("AMX int8", re.compile(rb"\ttdpb[su][su]d ")),
    ("AMX bf16", re.compile(rb"\ttdpbf16ps ")),
)
_ELF = b"\x7fELF"
_PART = 1 << 24


def program_isa(program: Path) -> str:
    """Names with commas between them, of the program and of ggml's libraries beside it; "not told"
    where it is no program of this system, or there is no `objdump`."""
    objdump = shutil.which("objdump")
    libraries = [*program.parent.glob("libggml*.so"), *program.parent.glob("../lib/libggml*.so")]
    files = [file for file in (program, *libraries) if _is_elf(file)]
    if objdump is None or not files:
        return "not told"
    found = {name for file in files for name in _found(objdump, file)}
    return ", ".join(name for name, _ in _SIGNS if name in found) or "x86-64"


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_ELF)) == _ELF


def _found(objdump: str, file: Path) -> set[str]:
    found: set[str] = set()
    command = [objdump, "-d", "--no-show-raw-insn", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while text := process.stdout.read(_PART):
            found |= {name for name, sign in _SIGNS if name not in found and sign.search(text)}
    return found
