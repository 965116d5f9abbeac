"""What serving a token costs beside the engine: measured on a real server that streams."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lmrun.bench.deployment import free_port, start_server
from lmrun.bench.probe import CONTEXT, READY_S, write_tiny
from lmrun.engine.launch import start_worker
from lmrun.errors import StageError
from lmrun.server.settings import ServerSettings

LAYERS = 64
"""A step of some hundred microseconds, so that each token comes to the server on its own."""
POLL_S = 0.05


def seconds_a_token(threads: int, requests: int = 16) -> float:
    """CPU seconds that the server spends on a streamed token, the least of so many requests.

    Raises `StageError` where the server does not come up, `EngineError` for the engine.
    """
    with tempfile.TemporaryDirectory(prefix="lmrun-") as name:
        folder = Path(name)
        engine = write_tiny(folder, LAYERS, threads)
        _write_tokenizer(folder)
        settings = ServerSettings(
            host="127.0.0.1",
            port=free_port(),
            served_name="probe",
            engine_socket=str(folder / "engine.sock"),
            tokenizer_folder=name,
            planned=engine,
            parent_pid=os.getpid(),
        )
        log = folder / "engine.log"
        worker = start_worker(engine, socket_path=folder / "engine.sock", log_path=log)
        try:
            worker.wait_ready(READY_S)
            server = start_server(settings.to_json(), folder / "server.log")
            try:
                return _least(settings.port, server, requests)
            finally:
                server.kill()
                server.wait()
        finally:
            worker.stop()


def _least(port: int, server: subprocess.Popen[str], requests: int) -> float:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        deadline = time.monotonic() + READY_S
        while not _is_ready(client):
            if server.poll() is not None or time.monotonic() > deadline:
                raise StageError("doctor: the server that was to be measured did not come up.")
            time.sleep(POLL_S)
        return min(_of_one_request(client, server.pid) for _ in range(requests))


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").is_success
    except httpx.TransportError:
        return False


def _of_one_request(client: httpx.Client, pid: int) -> float:
    num_tokens = CONTEXT - 8
    body = {
        "prompt": "ab",
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    before = _cpu_seconds(pid)
    with client.stream("POST", "/v1/completions", json=body) as reply:
        reply.raise_for_status()
        for _ in reply.iter_raw():
            pass
    return (_cpu_seconds(pid) - before) / num_tokens


def _cpu_seconds(pid: int) -> float:
    """Time that the threads of a process had a core, to the nanosecond."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1e9


def _write_tokenizer(folder: Path) -> None:
    """A token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: index for index, char in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
