"""`lmrun up` as a user meets it."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from e2e.deployment import Deployment, Starter, run, wait_until

SLOW = "backend.isa=generic"
LONG = {"prompt": "hello", "temperature": 0, "max_tokens": 500, "ignore_eos": True}


def test_the_printed_curl_line_works_as_it_is(start: Starter) -> None:
    deployment = start()
    line = deployment.line("curl")
    answer = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=60)
    document = json.loads(answer.stdout)
    assert document["model"] == "random-llama"
    assert document["choices"][0]["message"]["content"]
    assert deployment.line("api") == f"api    {deployment.url}/v1"
    assert deployment.line("model") == "model  random-llama"
    assert (
        "random weights: the text will be noise; choose a model with model.path=..."
        in deployment.err
    )
    assert deployment.stop() == 0


def test_a_second_start_builds_nothing(start: Starter, tmp_path: Path) -> None:
    home = tmp_path / "own-home"
    first = start(own_home=home)
    assert "convert   run " in first.err
    assert first.stop() == 0
    files = written(home)
    second = start(own_home=home)
    assert "convert   cached " in second.err
    assert "   run " not in second.err
    assert second.stop() == 0
    assert files == written(home)


def written(home: Path) -> dict[Path, int]:
    """Every file of the artifacts, and when it was written; a folder tells its last use."""
    files = (path for path in (home / "artifacts").rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_engine_runs_with_the_planned_settings(start: Starter) -> None:
    deployment = start("kv.bits=8", "backend.max_num_seqs=3", "backend.max_batch_tokens=96")
    config = httpx.get(f"{deployment.url}/config", trust_env=False).json()
    assert config["differences"] == {}
    assert (config["engine"]["kv_bits"], config["engine"]["max_num_seqs"]) == (8, 3)


def test_sigterm_lets_a_running_request_finish_and_refuses_new_ones(start: Starter) -> None:
    deployment = start(SLOW)
    finished: list[dict[str, object]] = []

    def complete() -> None:
        answer = httpx.post(
            f"{deployment.url}/v1/completions", json=LONG, timeout=60, trust_env=False
        )
        finished.append(answer.json())

    client = threading.Thread(target=complete)
    client.start()
    wait_until(lambda: _running(deployment) == 1)
    deployment.process.send_signal(signal.SIGTERM)
    wait_until(lambda: deployment.status("/health/ready") == 503)
    refused = httpx.post(f"{deployment.url}/v1/completions", json=LONG, trust_env=False)
    assert refused.status_code == 503
    client.join()
    assert finished[0]["usage"]["completion_tokens"] == 500  # type: ignore[index]
    assert deployment.process.wait(30) == 0


def test_a_second_signal_stops_now(start: Starter) -> None:
    deployment = start(SLOW)
    with httpx.stream(
        "POST",
        f"{deployment.url}/v1/completions",
        json={**LONG, "max_tokens": 1900, "stream": True},
        timeout=30,
        trust_env=False,
    ) as answer:
        lines = answer.iter_lines()  # closing it would close the stream
        next(lines)
        children = deployment.children()
        deployment.process.send_signal(signal.SIGINT)
        wait_until(lambda: deployment.status("/health/ready") == 503)
        started = time.monotonic()
        deployment.process.send_signal(signal.SIGINT)
        assert deployment.process.wait(10) == 130
        assert time.monotonic() - started < 4
    _assert_gone(children)


def test_a_stop_leaves_neither_process_nor_file(start: Starter) -> None:
    deployment = start()
    folders = list(deployment.runtime_root.glob("lmrun-*"))
    assert [oct(folder.stat().st_mode & 0o777) for folder in folders] == ["0o700"]
    children = deployment.children()
    assert len(children) == 2
    assert deployment.stop() == 0
    _assert_gone(children)
    assert list(deployment.runtime_root.glob("lmrun-*")) == []


def test_no_child_outlives_a_killed_supervisor(start: Starter) -> None:
    deployment = start("frontend.ui=gradio", until="page")
    children = deployment.children()
    assert len(children) == 3
    deployment.process.kill()
    _assert_gone(children)


def test_a_supervisor_killed_while_it_builds_leaves_no_stage_behind(
    start: Starter, tmp_path: Path
) -> None:
    deployment = start(own_home=tmp_path / "own-home", until="")
    wait_until(lambda: deployment.has_child("lmrun.stages.runner"))
    children = deployment.children()
    deployment.process.kill()
    _assert_gone(children)


def test_an_interrupt_before_ready_is_status_130(start: Starter, tmp_path: Path) -> None:
    deployment = start(own_home=tmp_path / "own-home", until="")
    wait_until(lambda: deployment.has_child("lmrun.stages.runner"))
    children = deployment.children()
    deployment.process.send_signal(signal.SIGINT)
    assert deployment.process.wait(20) == 130
    _assert_gone(children)


def test_a_killed_stage_ends_the_deployment(start: Starter, tmp_path: Path) -> None:
    deployment = start(own_home=tmp_path / "own-home", until="")
    wait_until(lambda: deployment.has_child("lmrun.stages.runner"))
    deployment.child("lmrun.stages.runner").kill()
    assert deployment.process.wait(20) == 5
    assert deployment.err.endswith("lmrun: build: the stages process was ended by SIGKILL.\n")


def test_an_engine_killed_before_the_server_is_ready_ends_the_launch(start: Starter) -> None:
    deployment = start(until="")
    wait_until(lambda: deployment.has_child("lmrun.server"))
    deployment.child("lmrun.server").suspend()
    wait_until(lambda: "engine ready" in deployment.err, timeout_s=60)
    deployment.child("lmrun.engine.worker").kill()
    assert deployment.process.wait(20) == 5
    assert deployment.err.endswith("lmrun: launch: the engine process was ended by SIGKILL.\n")


def test_a_killed_engine_leaves_a_server_that_answers_503(start: Starter) -> None:
    deployment = start()
    deployment.child("lmrun.engine.worker").kill()
    wait_until(lambda: deployment.status("/health/ready") == 503)
    assert deployment.status("/health/live") == 200
    wait_until(lambda: "ERROR" in deployment.err)
    assert (
        "the engine process was ended by SIGKILL. The API answers 503; stop and start the"
        " deployment to serve again" in deployment.err
    )
    assert deployment.process.poll() is None
    assert deployment.stop() == 5


def test_the_end_of_the_server_ends_the_deployment(start: Starter) -> None:
    deployment = start()
    children = deployment.children()
    deployment.child("lmrun.server").kill()
    assert deployment.process.wait(20) == 5
    assert "lmrun: deployment: the server process was ended by SIGKILL." in deployment.err
    _assert_gone(children)


def test_the_end_of_the_page_leaves_the_api(start: Starter) -> None:
    deployment = start("frontend.ui=gradio", until="page")
    deployment.child("lmrun.ui").kill()
    wait_until(lambda: "the ui process was ended by SIGKILL. The API stays" in deployment.err)
    assert deployment.status("/health/ready") == 200
    assert deployment.stop() == 0


def test_a_port_in_use_is_named_with_the_next_free_one_before_anything_is_built(
    start: Starter, home: Path, tmp_path: Path
) -> None:
    deployment = start()
    port = deployment.port
    own_home = tmp_path / "own-home"
    done = run(own_home, "up", "model=random_llama", "quant=none", f"frontend.port={port}")
    assert done.returncode == 4
    where = f"frontend.port={port} (command line)"
    assert f"lmrun: {where}: port {port} of 127.0.0.1 is in use." in done.stderr
    assert "The next free port: frontend.port=" in done.stderr
    assert not (own_home / "artifacts").exists()


def test_a_bit_that_flipped_behind_its_stamp_drops_readiness_and_is_rebuilt(
    start: Starter, tmp_path: Path
) -> None:
    home = tmp_path / "own-home"
    assert run(home, "build", "-q", "model=random_llama", "quant=none").returncode == 0
    file = _damage(home)
    bad = file.read_bytes()
    deployment = start(own_home=home)
    wait_until(lambda: deployment.err.count("ready, ") == 2, 60)
    assert "the workspace in use is damaged: not ready while it is rebuilt" in deployment.err
    assert file.read_bytes() != bad
    assert deployment.status("/health/ready") == 200
    assert subprocess.run(["sh", "-c", deployment.line("curl")], check=False).returncode == 0
    assert deployment.stop() == 0


def test_verify_full_rebuilds_before_the_launch(start: Starter, tmp_path: Path) -> None:
    home = tmp_path / "own-home"
    assert run(home, "build", "-q", "model=random_llama", "quant=none").returncode == 0
    file = _damage(home)
    bad = file.read_bytes()
    deployment = start("--verify=full", own_home=home)
    assert file.read_bytes() != bad
    assert deployment.err.count("ready, ") == 1
    assert "it will be rebuilt" in deployment.err
    assert deployment.stop() == 0


def test_api_keys_reach_the_server_and_no_process_list(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMRUN_E2E_KEY", "a-secret-of-this-test")
    deployment = start("frontend.api_keys=['${oc.env:LMRUN_E2E_KEY}']")
    for process in (deployment.process, *deployment.children()):
        assert "a-secret-of-this-test" not in " ".join(process.cmdline())
    assert deployment.status("/v1/models") == 401
    line = deployment.line("curl")
    assert "a-secret" not in deployment.out + deployment.err
    answer = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=60)
    assert json.loads(answer.stdout)["choices"]


def _running(deployment: Deployment) -> float:
    text = httpx.get(f"{deployment.url}/metrics", trust_env=False).text
    return next(
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("lmrun_requests_running")
    )


def _assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert [process.cmdline() for process in alive if process.status() != "zombie"] == []


def _damage(home: Path) -> Path:
    """Flip a bit in the largest file of the workspace and put its mtime back."""
    folder = next((home / "artifacts" / "convert").iterdir())
    file = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(before.st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(before.st_size // 2)
        stream.write(bytes([byte ^ 4]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return file
