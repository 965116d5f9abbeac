"""Settings and a running worker for the tiny workspace."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lmrun.engine.launch import WorkerProcess, start_worker
from lmrun.engine.llm import LLM, settings_for
from lmrun.plan.engine_settings import EngineSettings


@pytest.fixture(scope="session")
def engine_settings(tiny_workspace: Path) -> EngineSettings:
    """Eight sequences, blocks of 16 tokens, room for two full contexts."""
    settings = settings_for(tiny_workspace, threads=1)
    return replace(settings, max_num_seqs=8, max_batch_tokens=64, block_size=16, num_blocks=512)


@pytest.fixture(scope="session")
def llm(engine_settings: EngineSettings) -> LLM:
    """The same model in process."""
    return LLM(engine_settings)


@pytest.fixture
def worker(engine_settings: EngineSettings, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker of its own for each test."""
    started = start_worker(
        engine_settings, socket_path=tmp_path / "engine.sock", log_path=tmp_path / "engine.log"
    )
    started.wait_ready(30)
    yield started
    started.process.kill()
    started.process.wait()
