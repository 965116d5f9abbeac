"""A folder with the peers of `lmrun bench engine`: a virtual environment with OpenVINO GenAI, and
llama.cpp's benches built for this machine; and the models they read, made of our checkpoints."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmrun import log
from lmrun.bench.engine_child import run_child
from lmrun.bench.engine_peers import drive_openvino
from lmrun.bench.peers import stepping
from lmrun.errors import StageError, UsageError

PACKAGES = ("openvino==2026.4.1", "openvino-genai==2026.4.1.0", "gguf==0.19.0", "cmake", "ninja")
LLAMA_CPP = "llama-cpp-python==0.3.36"
"""Its source distribution has the whole tree of llama.cpp, benches included."""
PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-quantize")
QUANTS = ("Q4_0", "Q4_K_M")
_CMAKE = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON"),
    *("-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"),
    *("-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF"),
)
_SHOWN_LINES = 12

_log = log.get(__name__)


@dataclass(frozen=True)
class PeersFolder:
    """Where `install` put the peers."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "PeersFolder":
        """`UsageError` where none were installed."""
        found = cls(path.expanduser().absolute())
        if not found.python.is_file():
            raise UsageError(
                f"--peers={path}: no peers there. lmrun bench engine --install-peers {path} puts"
                " them there (some minutes, a C++ compiler)."
            )
        return found

    @property
    def python(self) -> Path:
        """Of the virtual environment."""
        return self.path / "bin" / "python"

    def program(self, name: str) -> Path:
        """One of `PROGRAMS`; `UsageError` where it was not built."""
        found = self.path / "bin" / name
        if not found.is_file():
            raise UsageError(f"--peers={self.path}: no {name} in {found.parent}. Install it anew.")
        return found

    def gguf(self, shape: str, checkpoint: Path, quant: str) -> Path:
        """The checkpoint in one of `QUANTS`, made where it is not there yet."""
        file = self._model(shape, checkpoint, f"{quant}.gguf")
        if file.is_file():
            return file
        _log.info("bench: making %s", file.name)
        script = Path(stepping.__file__).with_name("gguf_model.py")
        floats, partial = file.with_suffix(".f16"), file.with_suffix(".partial")
        try:
            run_child([str(self.python), str(script), str(checkpoint), str(floats)])
            run_child([str(self.program("llama-quantize")), str(floats), str(partial), quant])
            partial.rename(file)
        finally:
            floats.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
        return file

    def openvino(self, shape: str, checkpoint: Path) -> Path:
        """The checkpoint as an int4 IR, made where it is not there yet."""
        folder = self._model(shape, checkpoint, "openvino-int4")
        if folder.is_dir():
            return folder
        _log.info("bench: making %s", folder.name)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        job = {"do": "make", "checkpoint": str(checkpoint), "model": str(partial)}
        try:
            drive_openvino(self.python, job)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return folder

    def _model(self, shape: str, checkpoint: Path, kind: str) -> Path:
        folder = self.path / "models"
        folder.mkdir(exist_ok=True)
        config = (checkpoint / "config.json").read_bytes()
        return folder / f"{shape}-{hashlib.sha256(config).hexdigest()[:8]}-{kind}"


def install(path: Path) -> PeersFolder:
    """Make the virtual environment, install packages into it, build the benches; what is there
    already stays. `StageError` with the end of what a tool said where it fails."""
    found = PeersFolder(path.expanduser().absolute())
    if not found.python.is_file():
        venv.create(found.path, with_pip=True)
    pip = [str(found.python), "-m", "pip", "--disable-pip-version-check"]
    _do("installing OpenVINO GenAI", [*pip, "install", *PACKAGES])
    if all((found.path / "bin" / name).is_file() for name in PROGRAMS):
        return found
    build = found.path / "build"
    build.mkdir(exist_ok=True)
    source = ["download", "--no-deps", "--no-binary", ":all:", "--dest", str(build), LLAMA_CPP]
    _do("downloading llama.cpp", [*pip, *source])
    (archive,) = build.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(build, filter="data")
    (tree,) = build.glob("llama_cpp_python-*/vendor/llama.cpp")
    cmake = str(found.path / "bin" / "cmake")
    _do("configuring llama.cpp", [cmake, "-S", str(tree), "-B", str(build / "b"), *_CMAKE])
    jobs = str(len(os.sched_getaffinity(0)))
    words = ["--build", str(build / "b"), "-j", jobs, "--target", *PROGRAMS]
    _do("building llama.cpp (some minutes)", [cmake, *words])
    for name in PROGRAMS:
        shutil.copy2(build / "b" / "bin" / name, found.path / "bin" / name)
    shutil.rmtree(build)
    return found


def _do(what: str, command: Sequence[str]) -> None:
    _log.info("bench: %s", what)
    environment = {
        **os.environ,
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise StageError(
            f"bench: {what}: ended with status {done.returncode}:\n"
            + "\n".join(f"    {line}" for line in said[-_SHOWN_LINES:])
        )
