"""A real server process with a real engine worker on the tiny model."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from lmrun.engine.launch import WorkerProcess, start_worker
from lmrun.engine.llm import settings_for
from lmrun.plan.engine_settings import EngineSettings
from lmrun.server.settings import ServerSettings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Deployment:
    """A worker and the server in front of it."""

    settings: ServerSettings
    worker: WorkerProcess
    server: subprocess.Popen[str]
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @cached_property
    def http(self) -> httpx.Client:
        """A raw client, kept: a new one costs tens of milliseconds."""
        return httpx.Client(base_url=self.url, timeout=30)

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0)

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def metric(self, name: str) -> float:
        """A sample of /metrics by its full name, labels included."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise AssertionError(f"no metric {name}")

    def wait_ready(self, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if self.get("/health/ready").status_code == 200:
                    return
            assert self.server.poll() is None, self.log_path.read_text()
            time.sleep(0.05)
        raise AssertionError("not ready: " + self.log_path.read_text())

    def stop(self) -> None:
        self.http.close()
        for process in (self.server, self.worker.process):
            process.kill()
            process.wait()


def start_server(settings: ServerSettings, log_path: Path) -> subprocess.Popen[str]:
    with log_path.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "lmrun.server"], stdin=subprocess.PIPE, stderr=log, text=True
        )
    assert server.stdin is not None
    with server.stdin:
        server.stdin.write(settings.to_json() + "\n")
    return server


def deploy(engine: EngineSettings, folder: Path, **changes: Any) -> Deployment:
    """Start both processes; ``changes`` are fields of `ServerSettings`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = ServerSettings(
        host="127.0.0.1",
        port=free_port(),
        served_name="tiny",
        engine_socket=str(folder / "engine.sock"),
        tokenizer_folder=engine.workspace,
        planned=engine,
        parent_pid=os.getpid(),
    )
    settings = replace(settings, **changes)
    worker = start_worker(
        engine, socket_path=Path(settings.engine_socket), log_path=folder / "engine.log"
    )
    server = start_server(settings, folder / "server.log")
    return Deployment(settings, worker, server, folder / "server.log")


@pytest.fixture(scope="session")
def engine_settings(tiny_workspace: Path) -> EngineSettings:
    """Sixteen sequences, room for four full contexts."""
    settings = settings_for(tiny_workspace, threads=1)
    return replace(settings, max_num_seqs=16, max_batch_tokens=64, block_size=16, num_blocks=1024)


@pytest.fixture(scope="session")
def deployment(
    engine_settings: EngineSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """One deployment for the tests that leave it as it was."""
    started = deploy(engine_settings, tmp_path_factory.mktemp("deployment"))
    started.wait_ready()
    yield started
    started.stop()


@pytest.fixture
def launch(engine_settings: EngineSettings, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Start deployments of a test's own; they are ready when it gets them."""
    started: list[Deployment] = []

    def start(**changes: Any) -> Deployment:
        deployment = deploy(engine_settings, tmp_path / str(len(started)), **changes)
        started.append(deployment)
        deployment.wait_ready()
        return deployment

    yield start
    for deployment in started:
        deployment.stop()


@pytest.fixture
def workspace_without_template(tiny_workspace: Path, tmp_path: Path) -> Path:
    """The tokenizer files alone, without a chat template."""
    folder = tmp_path / "no-template"
    folder.mkdir()
    for name in ("tokenizer.json", "generation_config.json"):
        shutil.copyfile(tiny_workspace / name, folder / name)
    (folder / "tokenizer_config.json").write_text(
        '{"bos_token": "<|bos|>", "eos_token": "<|eos|>"}'
    )
    return folder
