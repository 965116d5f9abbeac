"""What a plan deploys, for the time of a bench: its engine and its HTTP server.

The same two processes as under `lmrun up`, with the same settings, on a free port of this machine
and without the page. Both die with this process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from lmrun import env
from lmrun.artifacts.uses import Use, using
from lmrun.bench.probe import asked, next_event
from lmrun.bench.report import Memory
from lmrun.engine.launch import WorkerProcess, setting_differences, start_worker
from lmrun.engine.messages import EffectiveConfig, Ready, Stats
from lmrun.engine.messages import Memory as Resident
from lmrun.errors import EngineError, StageError
from lmrun.plan.plan import Plan

HOST = "127.0.0.1"
READY_S = 600.0
"""A workspace of many gigabytes comes from disk."""
POLL_S = 0.02
STOP_S = 5.0
LOG_LINES = 8
SOCKET = "engine.sock"
LONGEST_FOLDER = 80
"""Bytes: a unix socket's path has at most 107."""


@dataclass(frozen=True)
class Deployment:
    """Engine and server that answer."""

    plan: Plan
    url: str
    engine: WorkerProcess
    server: subprocess.Popen[str]
    folder: Path
    ready: Ready
    in_force: EffectiveConfig

    def check_alive(self) -> None:
        """Raise `StageError` if one of the two has ended."""
        for name, process in (("engine", self.engine.process), ("server", self.server)):
            if process.poll() is not None:
                raise StageError(f"bench: {_end(name, process, self.folder)}")

    def memory(self) -> tuple[Memory, float]:
        """Memory of the engine, and the seconds it took to be ready. Raises `EngineError`."""
        try:
            with _connected(self.engine.socket_path) as stream:
                resident = asked(stream, "memory", Resident)
                stats = asked(stream, "stats", Stats)
        except OSError as error:
            raise EngineError(f"engine: cannot be asked: {error}.") from error
        found = Memory(
            peak_rss_bytes=resident.peak_rss_bytes,
            weights_bytes=resident.weights_bytes,
            kv_bytes=resident.kv_bytes,
            kv_blocks=stats.num_blocks,
            peak_kv_blocks=stats.peak_used_blocks,
            preemptions=stats.preemptions,
        )
        return found, resident.seconds_to_ready


@contextmanager
def deployed(plan: Plan) -> Iterator[Deployment]:
    """Start what a built plan deploys; it is stopped behind the block.

    Raises `EngineError` or `StageError`, with the end of the log, where it does not come up.
    """
    artifacts = {stage.name: stage.fingerprint for stage in plan.stages if stage.fingerprint}
    use = Use("bench", artifacts, workspace=plan.engine.workspace, recipe=plan.recipe)
    root = None if len(os.fsencode(tempfile.gettempdir())) < LONGEST_FOLDER else "/tmp"
    with (
        using(env.home(), use),
        tempfile.TemporaryDirectory(prefix="lmrun-", dir=root) as name,
        _engine(plan, Path(name)) as (engine, ready, in_force),
        _server(plan, Path(name), engine) as (server, url),
    ):
        yield Deployment(plan, url, engine, server, Path(name), ready, in_force)


def server_settings(plan: Plan, socket_path: Path, port: int) -> Mapping[str, Any]:
    """What the server is told on its stdin: `lmrun.server.settings.ServerSettings` in JSON."""
    return {
        "host": HOST,
        "port": port,
        "served_name": plan.served_name,
        "engine_socket": str(socket_path),
        "tokenizer_folder": plan.engine.workspace,
        "planned": asdict(plan.engine),
        "chat_template": plan.chat_template,
        "parent_pid": os.getpid(),
    }


@contextmanager
def _engine(plan: Plan, folder: Path) -> Iterator[tuple[WorkerProcess, Ready, EffectiveConfig]]:
    worker = start_worker(plan.engine, socket_path=folder / SOCKET, log_path=folder / "engine.log")
    try:
        ready = worker.wait_ready(READY_S)
        with _connected(worker.socket_path) as stream:
            in_force = asked(stream, "effective_config", EffectiveConfig)
        if lost := setting_differences(plan.engine, in_force):
            named = ", ".join(f"{key}={got} for {wanted}" for key, (wanted, got) in lost.items())
            raise EngineError(f"engine settings: in force: {named}. It is not what was planned.")
        yield worker, ready, in_force
    finally:
        worker.stop(STOP_S)


@contextmanager
def _server(
    plan: Plan, folder: Path, engine: WorkerProcess
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    settings = json.dumps(server_settings(plan, engine.socket_path, port))
    server = start_server(settings, folder / "server.log")
    try:
        url = f"http://{HOST}:{port}"
        _wait_ready(url, server, engine, folder)
        yield server, url
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def start_server(settings: str, log: Path) -> subprocess.Popen[str]:
    """The HTTP server as a child, given `ServerSettings` as JSON; what it says goes to ``log``.

    One that dies at once is for the caller to find: it waits until the server is ready.
    """
    with log.open("w") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "lmrun.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    assert server.stdin is not None
    with suppress(BrokenPipeError), server.stdin:
        server.stdin.write(settings + "\n")
    return server


def _wait_ready(
    url: str, server: subprocess.Popen[str], engine: WorkerProcess, folder: Path
) -> None:
    deadline = time.monotonic() + READY_S
    with httpx.Client(base_url=url, trust_env=False, timeout=5.0) as client:
        while True:
            try:
                if client.get("/health/ready").is_success:
                    return
            except httpx.TransportError:
                pass  # not there yet
            for name, process in (("server", server), ("engine", engine.process)):
                if process.poll() is not None:
                    raise StageError(f"bench: {_end(name, process, folder)}")
            if time.monotonic() > deadline:
                raise StageError(f"bench: the server is not ready after {READY_S:g} s.")
            time.sleep(POLL_S)


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(str(path))
        next_event(stream, Ready)
        yield stream


def _end(name: str, process: subprocess.Popen[str], folder: Path) -> str:
    """How a process ended, and the last lines it logged."""
    status = process.returncode
    if status < 0:
        text = f"the {name} process was ended by {signal.Signals(-status).name}."
    else:
        text = f"the {name} process ended with status {status}."
    log = folder / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.is_file() else []
    return "\n  ".join([text, *lines])


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
