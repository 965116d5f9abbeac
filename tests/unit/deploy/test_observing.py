"""What a running engine shows is recorded, and nothing about it can fail a deployment."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lmrun.artifacts.measurements import Observation, find_observation, observation_key
from lmrun.deploy import observing
from lmrun.deploy.observing import Recorder
from lmrun.engine.client import EngineClient
from lmrun.engine.launch import WorkerProcess, start_worker
from lmrun.engine.llm import settings_for
from lmrun.engine.messages import SamplingParams
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.machine import this_machine


@pytest.fixture(scope="session")
def planned(tiny_workspace: Path) -> EngineSettings:
    return replace(settings_for(tiny_workspace, threads=1), num_blocks=64)


@pytest.fixture
def worker(planned: EngineSettings, tmp_path: Path) -> Iterator[WorkerProcess]:
    started = start_worker(
        planned, socket_path=tmp_path / "engine.sock", log_path=tmp_path / "engine.log"
    )
    started.wait_ready(30)
    yield started
    started.process.kill()
    started.process.wait()


async def complete(worker: WorkerProcess, tokens: int) -> None:
    client = EngineClient(worker.socket_path)
    await client.connect(10)
    stream = client.submit([1, 2, 3], SamplingParams(temperature=0, max_tokens=tokens))
    async for _ in stream:
        pass
    await client.close()


def recorded(home: Path, planned: EngineSettings) -> Observation | None:
    return find_observation(home, observation_key(home, asdict(planned), this_machine().identity))


def test_a_run_is_recorded_under_its_settings(
    worker: WorkerProcess, planned: EngineSettings, tmp_path: Path
) -> None:
    recorder = Recorder(planned, worker.socket_path, tmp_path)

    async def run() -> None:
        await complete(worker, 40)
        await recorder.record()

    asyncio.run(run())
    seen = recorded(tmp_path, planned)
    assert seen is not None
    assert seen.decode is not None
    assert seen.decode.steps == 39
    assert seen.decode.mean_context == pytest.approx(22)
    assert seen.touched_blocks == 2  # one of them for the first token of the process
    assert seen.peak_rss_bytes > seen.weights_resident_bytes
    assert recorded(tmp_path, replace(planned, threads=2)) is None


def test_an_engine_that_computed_nothing_leaves_no_line(
    worker: WorkerProcess, planned: EngineSettings, tmp_path: Path
) -> None:
    asyncio.run(Recorder(planned, worker.socket_path, tmp_path).record())
    assert not (tmp_path / "measurements.json").exists()


def test_a_deployment_that_is_killed_was_recorded_before(
    worker: WorkerProcess,
    planned: EngineSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observing, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(observing, "RECORD_EVERY_S", 0.1)
    recorder = Recorder(planned, worker.socket_path, tmp_path)

    async def run() -> None:
        recording = asyncio.create_task(recorder.run())
        await complete(worker, 20)
        for _ in range(400):
            if recorded(tmp_path, planned) is not None:
                break
            await asyncio.sleep(0.01)
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)

    asyncio.run(run())
    assert recorded(tmp_path, planned) is not None


def _gone(worker: WorkerProcess, home: Path) -> Awaitable[None]:
    worker.process.kill()
    worker.process.wait()
    return asyncio.sleep(0)


def _no_folder(worker: WorkerProcess, home: Path) -> Awaitable[None]:
    home.write_text("a file where the store should be")
    return complete(worker, 4)


@pytest.mark.parametrize("spoil", [_gone, _no_folder])
def test_what_cannot_be_recorded_is_a_warning(
    worker: WorkerProcess,
    planned: EngineSettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[WorkerProcess, Path], Awaitable[None]],
) -> None:
    async def run() -> None:
        await spoil(worker, tmp_path / "home")
        await Recorder(planned, worker.socket_path, tmp_path / "home").record()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert "what this run showed was not recorded: " in caplog.text
