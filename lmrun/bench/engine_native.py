"""The native engine under the loads of `stepping`, each in a process of its own.

python -P -m lmrun.bench.engine_native < JOB.json
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmrun import __version__, _engine
from lmrun.bench.engine_cases import (
    START_TOKENS,
    STEP_TOKENS,
    Case,
    Job,
    Measured,
    Outcome,
    stepped,
)
from lmrun.bench.engine_child import Others, run_child
from lmrun.bench.peers import stepping
from lmrun.engine.launch import start_worker
from lmrun.engine.messages import Memory, SamplingParams, Submit, Tokens
from lmrun.engine.native import build_engine, submit_native
from lmrun.engine.process import die_with_parent
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.plan import Plan

_READY_S = 120.0


@dataclass(frozen=True)
class Native:
    """Our engine in one setting."""

    name: str
    plan: Plan

    def about(self) -> dict[str, str]:
        """Our version, the ISA that `auto` takes."""
        isa = self.plan.engine.isa
        return {
            "version": __version__,
            "isa": _engine.supported_isas()[0] if isa == "auto" else isa,
        }

    def lacks(self, job: Job) -> str | None:
        """It has all."""
        return None

    def run(self, job: Job) -> Outcome:
        """Do a job in a new process; `StageError`, `EngineError`."""
        settings = _settings(self.plan.engine, job)
        if job.kind == "start":
            return _start(settings)
        words = json.dumps({"settings": asdict(settings), "job": job.to_json()})
        ended = run_child([sys.executable, "-P", "-m", "lmrun.bench.engine_native"], words)
        found = json.loads(ended.stdout.splitlines()[-1])
        return Outcome(stepped(found), ended.peak_rss_bytes, ended.others_busy)


class NativeStepper:
    """The native engine as `stepping` drives it."""

    def __init__(self, settings: EngineSettings) -> None:
        self._engine = build_engine(settings)
        self.vocab_size = self._engine.vocab_size
        self.step_tokens = settings.max_batch_tokens

    def submit(self, request_id: int, prompt: list[int], max_tokens: int) -> None:
        """Queue a completion; no token ends it."""
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, min_tokens=max_tokens)
        submit_native(self._engine, request_id, prompt, sampling, seed=0)

    def step(self) -> dict[int, int]:
        """Make a step."""
        outputs = self._engine.step()
        return {output.id: len(output.token_ids) for output in outputs if output.token_ids}

    def abort(self, request_id: int) -> None:
        """End a request."""
        self._engine.abort(request_id)

    def has_work(self) -> bool:
        """Whether a request is open."""
        return self._engine.has_work()


def _settings(planned: EngineSettings, job: Job) -> EngineSettings:
    """With a cache that holds what the job needs."""
    seqs = job.max_seqs
    # each sequence may leave its last block part empty
    blocks = -(-job.num_tokens // planned.block_size) + 2 * seqs
    return replace(
        planned,
        num_blocks=blocks,
        max_num_seqs=seqs,
        max_batch_tokens=STEP_TOKENS,
        context_length=min(planned.context_length, job.longest),
        prefix_caching=job.kind == "decode",
    )


def _start(settings: EngineSettings) -> Outcome:
    """The worker that `up` starts: seconds until it serves, and its peak memory after a request."""
    # what other jobs do not need
    import socket  # noqa: PLC0415

    from lmrun.bench.probe import asked, next_event  # noqa: PLC0415
    from lmrun.engine import wire  # noqa: PLC0415
    from lmrun.engine.messages import Ready  # noqa: PLC0415

    others, begin = Others.watch(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lmrun-") as name:
        path = Path(name) / "engine.sock"
        worker = start_worker(settings, socket_path=path, log_path=Path(name) / "engine.log")
        try:
            worker.wait_ready(_READY_S)
            seconds = time.monotonic() - begin
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.connect(str(path))
                ready = next_event(stream, Ready)
                prompt = stepping.prompt(ready.vocab_size, 1, stepping.SHORT_PROMPT)
                sampling = SamplingParams(
                    temperature=0.0, max_tokens=START_TOKENS, min_tokens=START_TOKENS
                )
                request = Submit(
                    request_id="start", prompt_token_ids=tuple(prompt), sampling=sampling
                )
                stream.sendall(wire.pack(request))
                while next_event(stream, Tokens).finish_reason is None:
                    pass
                memory = asked(stream, "memory", Memory)
        finally:
            worker.stop()
    detail = {"ready_s": seconds, "peak_rss_bytes": float(memory.peak_rss_bytes)}
    beside = (memory.weights_bytes or 0) + (memory.kv_bytes or 0)
    detail["weights_and_kv_bytes"] = float(beside)
    return Outcome((Measured(Case("start"), None, detail),), memory.peak_rss_bytes, others.cores(0))


def _child(job: Mapping[str, Any]) -> dict[str, Any]:
    kv_bits = job["settings"]["kv_bits"]
    settings = EngineSettings(
        **{**job["settings"], "kv_bits": tuple(kv_bits) if isinstance(kv_bits, list) else kv_bits}
    )
    return stepping.run(NativeStepper(settings), job["job"])


def main() -> None:
    """Read a job from stdin; the last line of stdout is its result."""
    die_with_parent(None)
    sys.stdout.write(json.dumps(_child(json.load(sys.stdin))) + "\n")


if __name__ == "__main__":
    main()
