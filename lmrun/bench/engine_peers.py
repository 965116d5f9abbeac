"""llama.cpp's benches and OpenVINO GenAI under the loads of `lmrun bench engine`."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.bench.engine_cases import (
    START_TOKENS,
    STEP_TOKENS,
    Case,
    Job,
    Measured,
    Outcome,
    stepped,
)
from lmrun.bench.engine_child import Ended, run_child
from lmrun.bench.peers import stepping
from lmrun.bench.program_isa import program_isa
from lmrun.errors import StageError

_GGML_KV = {16: "f16", 8: "q8_0", 4: "q4_0"}


@dataclass(frozen=True)
class LlamaBench:
    """A program with `llama-bench`'s flags, and `llama-batched-bench` if one lies beside."""

    name: str
    program: Path
    gguf: Path
    threads: int
    kv_bits: int = 16

    @property
    def batched(self) -> Path:
        """Of several sequences."""
        return self.program.with_name("llama-batched-bench")

    def lacks(self, job: Job) -> str | None:
        """Why it has no such figures; None where it has."""
        if job.kind == "trace":
            return "llama-bench takes no trace"
        if job.name == "many" and not self.batched.is_file():
            return f"no llama-batched-bench beside {self.program.name}"
        return None

    def run(self, job: Job) -> Outcome:
        """Do a job; `StageError` where the program fails or prints what it does not document."""
        if job.name == "many":
            return self._many(job)
        if job.kind == "start":
            ended, rows = self._bench("-p", "0", "-n", str(START_TOKENS))
            seconds = ended.seconds - START_TOKENS / rows[0]["avg_ts"]
            detail = {"ready_s": seconds, "peak_rss_bytes": float(ended.peak_rss_bytes)}
            return _outcome(ended, rows, (Measured(Case("start"), None, detail),))
        if job.kind == "prefill":
            lengths = ",".join(str(length) for length in job.lengths)
            ended, rows = self._bench("-p", lengths, "-n", "0")
            found = [Measured(Case("prefill", 1, row["n_prompt"]), row["avg_ts"]) for row in rows]
            return _outcome(ended, rows, tuple(found))
        words = ["-p", "0", "-n", str(job.new_tokens)]
        if job.contexts != (0,):
            words += ["-d", ",".join(str(context) for context in job.contexts)]
        ended, rows = self._bench(*words)
        found = [Measured(Case("decode", 1, row.get("n_depth", 0)), row["avg_ts"]) for row in rows]
        return _outcome(ended, rows, tuple(found))

    def about(self) -> dict[str, str]:
        """`version` by the program's own account of a token; `isa` by what it was built with."""
        _, rows = self._bench("-p", "0", "-n", "1")
        version = f"{rows[0].get('build_commit', '?')} ({rows[0].get('build_number', '?')})"
        return {"version": version, "isa": program_isa(self.program)}

    def _bench(self, *words: str) -> tuple[Ended, list[dict[str, Any]]]:
        command = [str(self.program), "-m", str(self.gguf), "-t", str(self.threads)]
        command += ["-r", "1", "-o", "json", *words]
        if self.kv_bits != 16:
            kind = _GGML_KV[self.kv_bits]
            command += ["-ctk", kind, "-ctv", kind, "-fa", "1"]
        ended = run_child(command)
        try:
            rows = json.loads(ended.stdout[ended.stdout.index("[") :])
            for row in rows:
                float(row["avg_ts"]), int(row["n_prompt"]), int(row["n_gen"])
        except (ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"bench: {self.program.name}: expected the JSON of llama-bench, got"
                f" {ended.stdout[:80]!r}."
            ) from error
        if not rows:
            raise StageError(f"bench: {self.program.name}: printed no test.")
        return ended, rows

    def _many(self, job: Job) -> Outcome:
        most = max(job.batches)
        prompts = [max(context, stepping.SHORT_PROMPT) for context in job.contexts]
        command = [str(self.batched), "-m", str(self.gguf), "-t", str(self.threads)]
        command += ["-tb", str(self.threads), "--output-format", "jsonl"]
        command += ["-c", str(most * (max(prompts) + job.new_tokens + 1))]
        command += ["-npp", ",".join(str(prompt) for prompt in prompts)]
        command += ["-ntg", str(job.new_tokens)]
        # what it prints last may be lost as it ends: one sequence more, which nobody reads
        command += ["-npl", ",".join(str(batch) for batch in (*job.batches, 1))]
        if self.kv_bits != 16:
            kind = _GGML_KV[self.kv_bits]
            command += ["-ctk", kind, "-ctv", kind, "-fa", "on"]
        ended = run_child(command)
        rows = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
        rates = {(row["pl"], row["pp"]): float(row["speed_tg"]) for row in reversed(rows)}
        found = []
        for context, prompt in zip(job.contexts, prompts, strict=True):
            for batch in job.batches:
                if (batch, prompt) not in rates:
                    raise StageError(
                        f"bench: {self.batched.name}: printed nothing of {batch} sequences of"
                        f" {prompt} tokens."
                    )
                found.append(Measured(Case("decode", batch, context), rates[batch, prompt]))
        return Outcome(tuple(found), ended.peak_rss_bytes, ended.others_busy)


def _outcome(ended: Ended, rows: list[dict[str, Any]], measured: tuple[Measured, ...]) -> Outcome:
    size = rows[0].get("model_size")
    return Outcome(
        measured, ended.peak_rss_bytes, ended.others_busy, None if size is None else int(size)
    )


@dataclass(frozen=True)
class OpenVinoPeer:
    """OpenVINO GenAI with the Python of its virtual environment."""

    name: str
    python: Path
    model: Path
    threads: int
    kv_bits: int = 8
    precision: str = "default"

    def lacks(self, job: Job) -> str | None:
        """It has all."""
        return None

    def run(self, job: Job) -> Outcome:
        """Do a job in a new process; `StageError`."""
        ended, found = self._driven(job.to_json(), job)
        measured = stepped(found)
        if job.kind == "start":
            seconds = found["start"]["first_token_at"] - ended.started_at
            detail = {"ready_s": seconds, "peak_rss_bytes": float(ended.peak_rss_bytes)}
            measured = (Measured(Case("start"), None, detail),)
        size = (self.model / "openvino_model.bin").stat().st_size
        return Outcome(measured, ended.peak_rss_bytes, ended.others_busy, size)

    def about(self) -> dict[str, str]:
        """`version` and `isa`: the kernels that its linears got."""
        _, found = self._driven({"do": "isa"}, None)
        return {"version": str(found["version"]), "isa": str(found["isa"])}

    def _driven(self, load: dict[str, Any], job: Job | None) -> tuple[Ended, dict[str, Any]]:
        words = {
            **load,
            "model": str(self.model),
            "threads": self.threads,
            "kv_bits": self.kv_bits,
            "precision": self.precision,
            "num_tokens": 0 if job is None else job.num_tokens,
            "max_num_seqs": 1 if job is None else job.max_seqs,
            "step_tokens": STEP_TOKENS,
        }
        return drive_openvino(self.python, words)


def drive_openvino(python: Path, job: dict[str, Any]) -> tuple[Ended, dict[str, Any]]:
    """Run `peers/openvino_engine.py`; the result is its last line."""
    script = Path(stepping.__file__).with_name("openvino_engine.py")
    with tempfile.TemporaryDirectory(prefix="lmrun-") as name:
        file = Path(name) / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        ended = run_child([str(python), str(script), str(file)], cwd=Path(name))
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return ended, found
