"""What a bench starts is what `up` would start."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import running
from lmrun.bench.deployment import Deployment, deployed, server_settings
from lmrun.config import compose
from lmrun.deploy.building import build
from lmrun.errors import EngineError, StageError
from lmrun.plan.plan import Plan
from lmrun.server.settings import ServerSettings

OVERRIDES = ["model=random_llama", "quant=none", "backend.threads=1", "backend.context_length=256"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(home))


@pytest.fixture
def plan(home: Path) -> Plan:
    return build(compose(OVERRIDES), Store(home), show_plan=False)


@pytest.fixture
def deployment(plan: Plan) -> Iterator[Deployment]:
    with deployed(plan) as found:
        yield found


def test_the_server_is_told_what_it_understands(plan: Plan) -> None:
    """The bench stands below the server and hands it plain JSON: names that drift apart fail."""
    settings = ServerSettings.from_json(json.dumps(server_settings(plan, Path("/x/e.sock"), 80)))
    assert settings == ServerSettings(
        host="127.0.0.1",
        port=80,
        served_name=plan.served_name,
        engine_socket="/x/e.sock",
        tokenizer_folder=plan.engine.workspace,
        planned=plan.engine,
        chat_template=plan.chat_template,
        parent_pid=os.getpid(),
    )


def test_engine_and_server_run_with_the_planned_settings(deployment: Deployment) -> None:
    config = httpx.get(f"{deployment.url}/config", trust_env=False).json()
    assert config["differences"] == {}
    assert config["engine"]["context_length"] == 256
    assert deployment.in_force.settings["threads"] == 1
    assert deployment.ready.context_length == 256


def test_nothing_is_left_behind(plan: Plan) -> None:
    with deployed(plan) as deployment:
        children = [deployment.engine.process.pid, deployment.server.pid]
        assert all(map(psutil.pid_exists, children))
        assert deployment.folder.is_dir()
    assert not any(map(psutil.pid_exists, children))
    assert not deployment.folder.exists()


def test_the_store_knows_what_is_in_use(plan: Plan, home: Path) -> None:
    with deployed(plan):
        (one,) = running(home)
        assert one.use.verb == "bench"
        assert one.use.workspace == plan.engine.workspace
    assert running(home) == []


def test_memory_is_the_engines(deployment: Deployment) -> None:
    memory, seconds_to_ready = deployment.memory()
    assert memory.peak_rss_bytes > 2**20
    assert memory.kv_blocks == deployment.plan.engine.num_blocks
    assert seconds_to_ready > 0


@pytest.mark.parametrize("name", ["engine", "server"])
def test_a_process_that_died_is_named_with_its_signal(deployment: Deployment, name: str) -> None:
    processes: dict[str, subprocess.Popen[str]] = {
        "engine": deployment.engine.process,
        "server": deployment.server,
    }
    deployment.check_alive()
    processes[name].send_signal(signal.SIGKILL)
    processes[name].wait()
    with pytest.raises(StageError) as caught:
        deployment.check_alive()
    text = str(caught.value).splitlines()[0]
    assert text == f"bench: the {name} process was ended by SIGKILL."


def test_a_workspace_that_is_damaged_is_refused_by_its_engine(plan: Plan, tmp_path: Path) -> None:
    from dataclasses import replace

    broken = replace(plan, engine=replace(plan.engine, workspace=str(tmp_path)))
    with pytest.raises(EngineError, match="engine: exited with status 5"), deployed(broken):
        raise AssertionError("never inside")
