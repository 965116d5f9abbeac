"""Readiness, the bounded queue, draining, and an engine that dies."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from lmrun.engine.launch import start_worker
from lmrun.plan.engine_settings import EngineSettings
from unit.processes import PATIENCE_S, wait_gone

LONG = {"model": "tiny", "prompt": "hello", "max_tokens": 4000, "ignore_eos": True}


@contextmanager
def streaming(deployment: Any, **changes: Any) -> Iterator[Iterator[str]]:
    """The data lines of a long stream that has begun."""
    body = LONG | {"stream": True} | changes
    with httpx.stream("POST", f"{deployment.url}/v1/completions", json=body, timeout=30) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = (line.removeprefix("data: ") for line in reply.iter_lines() if line)
        next(lines)
        yield lines


def test_a_server_without_its_engine_is_live_not_ready_and_says_why(
    engine_settings: EngineSettings, launch: Callable[..., Any], tmp_path: Path
) -> None:
    deployment = launch()  # only for its settings and clean-up
    deployment.server.kill()
    deployment.server.wait()
    late = tmp_path / "late.sock"
    settings = replace(deployment.settings, engine_socket=str(late))
    deployment.server = subprocess.Popen(
        [sys.executable, "-m", "lmrun.server"], stdin=subprocess.PIPE, text=True
    )
    deployment.server.stdin.write(settings.to_json() + "\n")
    deployment.server.stdin.close()
    reply = _first_reply(deployment, "/health/ready")
    assert reply.status_code == 503
    assert reply.json()["error"]["message"] == (
        "not ready: the engine has not computed its first token yet (late.sock)."
    )
    assert deployment.get("/health/live").status_code == 200
    refused = httpx.post(f"{deployment.url}/v1/completions", json=LONG)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_down")
    worker = start_worker(engine_settings, socket_path=late, log_path=tmp_path / "late.log")
    try:
        deployment.wait_ready()
    finally:
        worker.stop()


def _first_reply(deployment: Any, path: str) -> httpx.Response:
    for _ in range(200):
        try:
            return httpx.get(deployment.url + path)
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server does not listen")


def test_kill_9_of_the_engine_ends_streams_with_an_error_and_leaves_the_server_up(
    launch: Callable[..., Any],
) -> None:
    deployment = launch()
    whole: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: whole.append(
            httpx.post(f"{deployment.url}/v1/completions", json=LONG, timeout=30)
        )
    )
    waiting.start()
    with streaming(deployment) as lines:
        deadline = time.monotonic() + PATIENCE_S
        while deployment.metric("lmrun_requests_running") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        deployment.worker.process.kill()
        rest = list(lines)
    waiting.join()
    error = {
        "message": "engine: the engine process closed the connection.",
        "type": "server_error",
        "param": None,
        "code": "engine_down",
    }
    assert json.loads(rest[-1]) == {"error": error}
    assert "[DONE]" not in rest
    assert (whole[0].status_code, whole[0].json()) == (503, {"error": error})
    ready = deployment.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["error"]["message"] == (
        "not ready: the engine process closed the connection."
    )
    assert httpx.post(f"{deployment.url}/v1/completions", json=LONG).status_code == 503
    assert deployment.get("/config").status_code == 503
    assert deployment.get("/metrics").status_code == 200
    assert deployment.metric('lmrun_requests_total{outcome="error"}') == 2
    assert deployment.get("/health/live").status_code == 200
    assert deployment.server.poll() is None


def test_the_openai_client_sees_the_death_of_the_engine_as_an_error(
    launch: Callable[..., Any],
) -> None:
    deployment = launch()
    stream = deployment.openai.completions.create(
        model="tiny", prompt="x", max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
    )
    next(stream)
    deployment.worker.process.kill()
    with pytest.raises(openai.APIError, match="the engine process closed the connection"):
        list(stream)
    with pytest.raises(openai.InternalServerError, match="engine"):
        deployment.openai.completions.create(model="tiny", prompt="x")


def test_a_drain_refuses_new_requests_and_lets_running_ones_finish(
    launch: Callable[..., Any],
) -> None:
    deployment = launch()
    with streaming(deployment, prompt=["hello"] * 4, max_tokens=1500) as lines:
        deployment.server.send_signal(signal.SIGTERM)
        reply = httpx.Response(200)
        deadline = time.monotonic() + PATIENCE_S
        while reply.status_code == 200 and time.monotonic() < deadline:
            reply = deployment.get("/health/ready")
        assert reply.json()["error"]["message"] == "not ready: stopping."
        refused = deployment.http.post("/v1/completions", json=LONG)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert deployment.get("/health/live").status_code == 200
        rest = list(lines)
    assert rest[-1] == "[DONE]"
    assert json.loads(rest[-2])["choices"][0]["finish_reason"] == "length"
    assert deployment.server.wait(PATIENCE_S) == 0


def test_an_idle_server_stops_at_once(launch: Callable[..., Any]) -> None:
    deployment = launch()
    deployment.server.send_signal(signal.SIGINT)
    assert deployment.server.wait(5) == 0


def test_after_drain_s_what_still_runs_ends_with_an_error(launch: Callable[..., Any]) -> None:
    deployment = launch(drain_s=0.1)
    with streaming(deployment) as lines:
        deployment.server.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert json.loads(rest[-1])["error"]["message"] == "engine: the server is stopping."
    assert deployment.server.wait(PATIENCE_S) == 0


def test_ctrl_c_of_the_group_and_the_supervisors_sigterm_are_one_wish_but_twice_is_now(
    launch: Callable[..., Any],
) -> None:
    deployment = launch()
    with streaming(deployment) as lines:
        deployment.server.send_signal(signal.SIGINT)
        deployment.server.send_signal(signal.SIGTERM)
        next(lines)
        time.sleep(0.2)
        assert deployment.server.poll() is None
        deployment.server.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert deployment.server.wait(5) is not None
        assert time.monotonic() - started < 3


def test_a_full_queue_is_429_with_retry_after(launch: Callable[..., Any]) -> None:
    deployment = launch(max_waiting=4)

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=deployment.url, timeout=60) as client:
            body = LONG | {"max_tokens": 600}
            return await asyncio.gather(
                *(client.post("/v1/completions", json=body) for _ in range(30))
            )

    replies = asyncio.run(run())
    refused = [reply for reply in replies if reply.status_code == 429]
    assert {reply.status_code for reply in replies} == {200, 429}
    assert 1 <= len(refused) <= 10
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["error"] == {
        "message": "server: 20 requests are in progress, the queue is full. Try again later.",
        "type": "rate_limit_error",
        "param": None,
        "code": "queue_full",
    }
    assert httpx.post(f"{deployment.url}/v1/completions", json=LONG).status_code == 200


def test_config_shows_the_settings_in_force_beside_the_planned(
    deployment: Any, engine_settings: EngineSettings
) -> None:
    config = deployment.get("/config").json()
    assert config["planned"] == asdict(engine_settings)
    assert config["differences"] == {}
    chosen = {name: config["engine"][name] for name in ("isa", "weight_memory")}
    assert config["engine"] == {**asdict(engine_settings), **chosen}
    assert chosen["isa"] in ("generic", "avx2", "avx512", "amx")
    assert chosen["weight_memory"] in ("huge_pages", "mapped")
    assert config["server"]["served_name"] == "tiny"
    assert "version" in config["engine_build"]


def test_config_names_a_setting_that_was_lost(
    launch: Callable[..., Any], engine_settings: EngineSettings
) -> None:
    deployment = launch(planned=replace(engine_settings, kv_bits=4))
    assert deployment.get("/config").json()["differences"] == {
        "kv_bits": {"planned": 4, "in_force": 16}
    }


def test_metrics_count_what_was_sent(launch: Callable[..., Any]) -> None:
    deployment = launch()
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 20, "ignore_eos": True}
    for stream in (False, True):
        httpx.post(f"{deployment.url}/v1/completions", json=body | {"stream": stream})
    httpx.post(f"{deployment.url}/v1/completions", json={"prompt": 7})
    expected = {
        "lmrun_prompt_tokens_total": 12,
        "lmrun_completion_tokens_total": 40,
        'lmrun_requests_total{outcome="length"}': 2,
        'lmrun_requests_total{outcome="refused"}': 1,
        'lmrun_requests_total{outcome="error"}': 0,
        "lmrun_time_to_first_token_seconds_count": 2,
        "lmrun_inter_token_latency_seconds_count": 38,
        "lmrun_kv_blocks_total": 1024,
        "lmrun_kv_blocks_used": 0,
        "lmrun_requests_running": 0,
        "lmrun_requests_waiting": 0,
        "lmrun_preemptions_total": 0,
        'lmrun_sequences_per_step_bucket{le="2.0"}': 41,  # the warm-up step among them
        "lmrun_sequences_per_step_sum": 41,
    }
    assert {name: deployment.metric(name) for name in expected} == expected


def test_the_server_dies_with_its_parent(launch: Callable[..., Any], tmp_path: Path) -> None:
    deployment = launch()
    deployment.server.kill()
    deployment.server.wait()
    code = (
        "import subprocess, sys, time, json, os\n"
        "settings = json.loads(sys.argv[1]); settings['parent_pid'] = os.getpid()\n"
        "child = subprocess.Popen([sys.executable, '-m', 'lmrun.server'], stdin=subprocess.PIPE)\n"
        "child.stdin.write(json.dumps(settings).encode() + b'\\n'); child.stdin.close()\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, deployment.settings.to_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        _first_reply(deployment, "/health/live")
        parent.kill()
    wait_gone(pid)


def test_a_port_in_use_ends_the_server_with_one_sentence(deployment: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmrun.server"],
        input=replace(deployment.settings, parent_pid=None).to_json() + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    port = deployment.settings.port
    assert done.stderr == (
        f"ERROR lmrun.server: frontend.port={port}: cannot listen on 127.0.0.1:{port}:"
        " Address already in use.\n"
    )


@pytest.mark.parametrize("line", ["", "{}", '{"colour": 1}'])
def test_settings_that_are_no_server_settings_are_refused(line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmrun.server"],
        input=line + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "server settings: " in done.stderr
    assert "Traceback" not in done.stderr
