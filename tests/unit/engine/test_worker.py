"""A real worker process and its client: messages, liveness, the ways to end."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pytest

from lmrun.engine import wire
from lmrun.engine.client import EngineClient, TokenStream
from lmrun.engine.launch import WorkerProcess, probe, setting_differences, start_worker
from lmrun.engine.llm import LLM
from lmrun.engine.messages import (
    Ask,
    Event,
    Memory,
    Ready,
    SamplingParams,
    Stats,
    Submit,
    Tokens,
)
from lmrun.errors import EngineError, RequestError
from lmrun.plan.engine_settings import EngineSettings
from unit.processes import wait_gone

GREEDY = SamplingParams(temperature=0, max_tokens=24)
ENDLESS = SamplingParams(temperature=0, max_tokens=4000)
PROMPTS = [[256, 1, 2, 3], [256, 200], list(range(100, 180))]


def with_client(
    worker: WorkerProcess, test: Callable[[EngineClient], Awaitable[None]], **options: float
) -> None:
    async def run() -> None:
        client = EngineClient(worker.socket_path, **options)
        await client.connect(10)
        try:
            await test(client)
        finally:
            await client.close()

    asyncio.run(run())


async def tokens_of(stream: TokenStream) -> tuple[list[int], str | None]:
    ids: list[int] = []
    reason = None
    async for event in stream:
        ids += event.token_ids
        reason = event.finish_reason
    return ids, reason


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(200):
        if await check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within two seconds")


def test_the_worker_answers_as_the_engine_in_process_does(worker: WorkerProcess, llm: LLM) -> None:
    expected = [list(output.token_ids) for output in llm.generate(PROMPTS, GREEDY, ignore_eos=True)]
    scores = llm.score([PROMPTS[2]])[0].tolist()

    async def test(client: EngineClient) -> None:
        streams = [client.submit(prompt, GREEDY) for prompt in PROMPTS]
        answers = await asyncio.gather(*(tokens_of(stream) for stream in streams))
        assert [ids for ids, _ in answers] == expected
        assert {reason for _, reason in answers} == {"length"}
        assert list((await client.score(PROMPTS[2])).logprobs) == scores
        assert client.ready is not None
        assert client.ready.vocab_size == 272

    with_client(worker, test)


def test_two_clients_with_the_same_request_ids_do_not_mix(worker: WorkerProcess, llm: LLM) -> None:
    expected = [list(output.token_ids) for output in llm.generate(PROMPTS, GREEDY, ignore_eos=True)]

    async def test(first: EngineClient) -> None:
        second = EngineClient(worker.socket_path)
        await second.connect(10)
        streams = [first.submit(PROMPTS[0], GREEDY), second.submit(PROMPTS[1], GREEDY)]
        assert streams[0].request_id == streams[1].request_id
        answers = await asyncio.gather(*(tokens_of(stream) for stream in streams))
        assert [ids for ids, _ in answers] == expected[:2]
        await second.close()

    with_client(worker, test)


def test_closing_a_stream_frees_its_blocks(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        async with client.submit(PROMPTS[0], ENDLESS) as stream:
            await anext(stream)
            assert (await client.stats()).used_blocks > 0
        await eventually(lambda: _is_idle(client))

    with_client(worker, test)


def test_cancelling_the_reader_of_a_stream_aborts_the_request(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        task = asyncio.create_task(tokens_of(client.submit(PROMPTS[0], ENDLESS)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: _is_idle(client))

    with_client(worker, test)


def test_a_lost_connection_aborts_its_requests_and_no_other(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        lost = EngineClient(worker.socket_path)
        await lost.connect(10)
        for prompt in PROMPTS:
            await anext(lost.submit(prompt, ENDLESS))
        kept = client.submit(PROMPTS[0], ENDLESS)
        await anext(kept)
        await lost.close()

        async def is_alone() -> bool:
            return (await client.stats()).running == 1

        await eventually(is_alone)
        assert (await anext(kept)).finish_reason is None
        kept.abort()

    with_client(worker, test)


async def _is_idle(client: EngineClient) -> bool:
    stats = await client.stats()
    return (stats.used_blocks, stats.running, stats.waiting) == (0, 0, 0)


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ([], GREEDY, "prompt"),
        ([272], GREEDY, "272"),
        ([0] * 5000, GREEDY, "5000"),
        ([0], SamplingParams(temperature=-1), "temperature"),
        ([0], SamplingParams(mask_slot=0), "sampling.mask_slot: not built yet."),
    ],
)
def test_a_request_that_cannot_run_is_refused(
    worker: WorkerProcess, prompt: list[int], sampling: SamplingParams, message: str
) -> None:
    async def test(client: EngineClient) -> None:
        with pytest.raises(RequestError) as caught:
            await anext(client.submit(prompt, sampling))
        assert message in str(caught.value)
        assert (await tokens_of(client.submit([0], GREEDY)))[1] == "length"

    with_client(worker, test)


def test_scoring_one_token_is_refused(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        with pytest.raises(RequestError, match="two tokens"):
            await client.score([1])

    with_client(worker, test)


def test_rubbish_on_a_connection_drops_that_client_alone(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(worker.socket_path))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(4096):
                    pass
        assert (await tokens_of(client.submit([0], GREEDY)))[1] == "length"

    with_client(worker, test)


def test_the_settings_in_force_are_those_asked_for(
    worker: WorkerProcess, engine_settings: EngineSettings
) -> None:
    async def test(client: EngineClient) -> None:
        effective = await client.effective_config()
        assert setting_differences(engine_settings, effective) == {}
        changed = replace(engine_settings, num_blocks=7, isa="generic")
        assert setting_differences(changed, effective) == {
            "isa": ("generic", effective.settings["isa"]),
            "num_blocks": (7, 512),
        }

    with_client(worker, test)


async def _last(stream: TokenStream) -> Tokens:
    async for event in stream:
        last = event
    return last


def test_kill_9_ends_every_stream_with_an_error_event(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        streams = [client.submit(prompt, ENDLESS) for prompt in PROMPTS]
        for stream in streams:
            await anext(stream)
        worker.process.kill()
        for stream in streams:
            last = await _last(stream)
            assert last.finish_reason == "error"
            assert last.error == "the engine process closed the connection"
        assert not client.alive
        with pytest.raises(EngineError, match="engine: the engine process closed the connection"):
            client.submit([0], GREEDY)
        with pytest.raises(EngineError):
            await client.stats()

    with_client(worker, test)


def test_a_hung_worker_ends_its_streams_with_an_error_event(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        stream = client.submit(PROMPTS[0], ENDLESS)
        await anext(stream)
        worker.process.send_signal(signal.SIGSTOP)
        last = await asyncio.wait_for(_last(stream), 10)
        assert last.error is not None
        assert last.error.startswith("the engine process has said nothing for")
        assert not client.alive

    with_client(worker, test, heartbeat_s=0.05, hang_timeout_s=0.5)


def test_an_idle_worker_stays_alive_in_the_clients_eyes(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        await asyncio.sleep(1)
        assert client.alive

    with_client(worker, test, heartbeat_s=0.05, hang_timeout_s=0.5)


def test_sigterm_ends_streams_and_the_process_cleanly(worker: WorkerProcess) -> None:
    async def test(client: EngineClient) -> None:
        stream = client.submit(PROMPTS[0], ENDLESS)
        await anext(stream)
        worker.process.terminate()
        last = await _last(stream)
        assert (last.finish_reason, last.error) == ("error", "engine: stopped.")

    with_client(worker, test)
    assert worker.process.wait(5) == 0
    assert not worker.socket_path.exists()


def test_a_missing_workspace_ends_the_worker_with_one_sentence(
    engine_settings: EngineSettings, tmp_path: Path
) -> None:
    settings = replace(engine_settings, workspace=str(tmp_path / "nowhere"))
    worker = start_worker(
        settings, socket_path=tmp_path / "engine.sock", log_path=tmp_path / "engine.log"
    )
    with pytest.raises(EngineError, match="exited with status 5") as caught:
        worker.wait_ready(30)
    assert "nowhere" in str(caught.value)
    assert "Traceback" not in (tmp_path / "engine.log").read_text()


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"workspace": "x", "turbo": true}'])
def test_settings_that_are_no_engine_settings_are_refused(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmrun.engine.worker", "--socket", str(tmp_path / "s")],
        input=line + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "engine settings: expected one JSON line" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_worker_dies_with_its_parent(engine_settings: EngineSettings, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    code = (
        "import json, sys, time; from pathlib import Path\n"
        "from lmrun.engine.launch import start_worker\n"
        "from lmrun.plan.engine_settings import EngineSettings\n"
        "settings = EngineSettings(**json.loads(sys.argv[1]))\n"
        "worker = start_worker(settings, socket_path=Path(sys.argv[2]))\n"
        "worker.wait_ready(30); print(worker.process.pid, flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, json.dumps(asdict(engine_settings)), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert probe(path) is not None
        parent.kill()
    wait_gone(pid)


@pytest.mark.parametrize(
    "module", ["lmrun.engine.worker", "lmrun.engine.client", "lmrun.engine.llm", "lmrun.server.app"]
)
def test_serving_processes_import_no_torch_transformers_or_gradio(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in sys.modules if m.split('.')[0] in"
        " ('torch', 'transformers', 'gradio', 'hydra', 'omegaconf')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_tells_its_memory_and_counts_its_steps(
    worker: WorkerProcess, engine_settings: EngineSettings
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(str(worker.socket_path))

        def answer() -> Event:
            body = wire.read_frame(stream)
            assert body is not None
            return wire.unpack_event(body)

        def asked(what: Literal["stats", "memory"]) -> Event:
            stream.sendall(wire.pack(Ask(what=what)))
            return answer()

        assert isinstance(answer(), Ready)
        before, memory = asked("stats"), asked("memory")
        assert isinstance(before, Stats)
        assert isinstance(memory, Memory)
        weights = Path(engine_settings.workspace, "rank-0.safetensors").stat().st_size
        assert memory.weights_bytes in (None, weights)
        assert memory.peak_rss_bytes >= memory.rss_bytes > weights
        assert 0 < memory.seconds_to_ready < 60

        submit = Submit(request_id="a", prompt_token_ids=tuple(range(64)), sampling=GREEDY)
        stream.sendall(wire.pack(submit))
        event = answer()
        while not (isinstance(event, Tokens) and event.finish_reason is not None):
            event = answer()
        after = asked("stats")
        assert isinstance(after, Stats)
        steps = GREEDY.max_tokens
        assert steps is not None
        assert after.decode_one.steps - before.decode_one.steps == steps - 1
        assert after.decode_one.context == sum(range(64, 64 + steps - 1))
        assert after.prefill.tokens - before.prefill.tokens == 64
        assert after.peak_used_blocks == -(-(64 + steps - 1) // engine_settings.block_size)
        assert after.busy_seconds > after.step_seconds > after.decode_one.seconds > 0
