"""The quality gate of `lmrun up`, as a user meets it."""

import json
import socket
from pathlib import Path

import httpx
from e2e.deployment import Starter, free_port, run

TEXT = "A small boat crossed the quiet river while the teacher counted stones.\n" * 40
SMALL = ("evaluate.window=32", "evaluate.max_tokens=310", "evaluate.kl_tokens=62")


def test_a_bound_that_is_not_kept_stops_before_any_port_is_open_and_a_kept_one_serves(
    start: Starter, tmp_path: Path
) -> None:
    (tmp_path / "held_out.txt").write_text(TEXT)
    home, log = tmp_path / "own-home", tmp_path / "events"
    words = (*SMALL, f"evaluate.data={tmp_path / 'held_out.txt'}", "kv.bits=4")
    port = free_port()
    with socket.socket() as probe:
        probe.settimeout(1)
        ended = run(
            home,
            *("up", "model=random_llama", "quant=none", "backend.threads=1", *words),
            *("evaluate.max_kl=0", f"frontend.port={port}", "--events", str(log)),
        )
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert ended.returncode == 6, ended.stderr
    assert "evaluate.max_kl=0 (command line): expected a KL divergence of at most 0" in ended.stderr
    assert ended.stdout == ""
    happened = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert "evaluated" in happened
    assert "engine_launched" not in happened
    deployment = start(*words, "evaluate.max_kl=10", own_home=home)
    assert "evaluate  cached " in deployment.err, "the report was kept"
    assert "at most 10: passed" in deployment.err
    assert httpx.get(f"{deployment.url}/v1/models", trust_env=False).status_code == 200
    assert deployment.stop() == 0
