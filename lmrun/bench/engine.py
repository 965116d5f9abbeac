"""Speed of the native engine beside its ceiling and beside transformers, in one run.

    python -m lmrun.bench.engine                    # TinyLlama shape, W16 and W4A16, 2 threads
    python -m lmrun.bench.engine --no-transformers --threads 1

Decode at batch 1 for each workspace and for transformers in bfloat16, in turn, `--rounds` times;
the best round of each counts, since other work on the machine only ever slows a round. Then 16
streams against one. GB/s is weight bytes read per token times tokens/s; its ceiling is the read
bandwidth measured in the same run. The last line is one JSON document.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmrun import _engine, env
from lmrun.artifacts.measurements import cpu_name
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.engine.process import rss
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from lmrun.stages.runner import build

PROMPT_TOKENS = 8
NEW_TOKENS = 64
STREAMS = 16


@dataclass(frozen=True)
class DecodeResult:
    """Decode at batch 1. Rates are per second, sizes in bytes."""

    name: str
    tokens_per_s: float
    weight_bytes: int
    gb_per_s: float
    share_of_bandwidth: float
    peak_rss_bytes: int
    rss_above_weights_and_kv_bytes: int | None
    """Peak RSS less the mapped workspace and the KV blocks the requests used; native only."""


def main() -> None:
    """Entry point; prints a table and a last line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m lmrun.bench.engine", description=__doc__)
    parser.add_argument("--model", default="random_llama_1b", help="option of the model group")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        sys.stdout.write(json.dumps(_child(json.loads(args.child))) + "\n")
        return
    sys.stdout.write(json.dumps(_run(args)) + "\n")


def _run(args: argparse.Namespace) -> dict[str, object]:
    plans = {name: _built(args, quant) for name, quant in (("W16", "none"), ("W4A16", "rtn"))}
    bandwidth = 0.0
    best: dict[str, dict[str, float]] = {}
    checkpoint = plans["W16"].checkpoint
    for _ in range(args.rounds):
        bandwidth = max(bandwidth, _engine.measure_read_bandwidth(args.threads, 1 << 29) / 1e9)
        for name, plan in plans.items():
            work = {"do": "native", "settings": asdict(plan.engine)}
            found = _in_child(work)
            blocks = -(-(PROMPT_TOKENS + NEW_TOKENS) // plan.engine.block_size)
            found["kv_bytes"] = blocks * plan.budget.block_bytes
            _keep_best(best, name, found)
        if not args.no_transformers and checkpoint is not None:
            peer = {"do": "transformers", "model": str(checkpoint), "threads": args.threads}
            _keep_best(best, "transformers bf16", _in_child(peer))
    rows = [_row(name, found, bandwidth) for name, found in best.items()]
    batch = _in_child({"do": "batch", "settings": asdict(plans["W4A16"].engine)})
    _print_table(rows, batch, bandwidth, args.threads)
    return {
        "schema_version": 1,
        "cpu": cpu_name(),
        "isa": _engine.supported_isas()[0],
        "threads": args.threads,
        "read_bandwidth_gb_per_s": bandwidth,
        "decode": [asdict(row) for row in rows],
        "streams": batch,
    }


def _built(args: argparse.Namespace, quant: str) -> Plan:
    composed = compose(
        [
            f"model={args.model}",
            f"quant={quant}",
            "kv=kv4",
            f"backend.threads={args.threads}",
            "backend.max_num_seqs=16",
            "backend.max_batch_tokens=64",
            "backend.context_length=2048",
        ]
    )
    store = Store(env.home())
    build(make_plan(composed, store), store)
    return make_plan(composed, store)


def _in_child(work: Mapping[str, object]) -> dict[str, float]:
    """Run one measurement in a process of its own: a clean peak RSS, nothing shared."""
    command = [sys.executable, "-P", "-m", "lmrun.bench.engine", "--child"]
    command.append(json.dumps(dict(work)))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: {work['do']} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _keep_best(best: dict[str, dict[str, float]], name: str, found: dict[str, float]) -> None:
    if name not in best or found["tokens_per_s"] > best[name]["tokens_per_s"]:
        best[name] = found


def _row(name: str, found: dict[str, float], bandwidth: float) -> DecodeResult:
    rate = found["tokens_per_s"] * found["weight_bytes"] / 1e9
    above = None
    if "workspace_bytes" in found:
        above = found["peak_rss_bytes"] - found["workspace_bytes"] - found["kv_bytes"]
    return DecodeResult(
        name=name,
        tokens_per_s=found["tokens_per_s"],
        weight_bytes=int(found["weight_bytes"]),
        gb_per_s=rate,
        share_of_bandwidth=rate / bandwidth,
        peak_rss_bytes=int(found["peak_rss_bytes"]),
        rss_above_weights_and_kv_bytes=None if above is None else int(above),
    )


def _child(work: dict[str, object]) -> dict[str, float]:
    if work["do"] == "transformers":
        return _decode_transformers(str(work["model"]), int(str(work["threads"])))
    settings = EngineSettings(**work["settings"])  # type: ignore[arg-type]
    return _decode_native(settings) if work["do"] == "native" else _decode_streams(settings)


def _engine_of(settings: EngineSettings) -> _engine.Engine:
    return _engine.Engine(**asdict(settings))


def _prompt(vocab_size: int, seed: int) -> list[int]:
    generator = np.random.default_rng(seed)
    return [int(token) for token in generator.integers(3, vocab_size, PROMPT_TOKENS)]


def _submit(engine: _engine.Engine, request_id: int) -> None:
    engine.submit(
        request_id,
        _prompt(engine.vocab_size, request_id),
        temperature=0.0,
        top_k=None,
        top_p=1.0,
        seed=0,
        max_tokens=NEW_TOKENS,
        min_tokens=0,
        stop_token_ids=[],
        logit_bias={},
        logprobs=None,
    )


def _decode_rate(engine: _engine.Engine, streams: int) -> float:
    """Tokens per second of all streams together, from the first token of the last on."""
    for request_id in range(streams):
        _submit(engine, request_id)
    started: set[int] = set()
    tokens, begin = 0, time.perf_counter()
    while engine.has_work():
        outputs = engine.step()
        if len(started) < streams:
            started.update(output.id for output in outputs)
            tokens, begin = 0, time.perf_counter()
        else:
            tokens += sum(len(output.token_ids) for output in outputs)
    return tokens / (time.perf_counter() - begin)


def _decode_native(settings: EngineSettings) -> dict[str, float]:
    engine = _engine_of(settings)
    rate = _decode_rate(engine, 1)
    # Each weight is read once a token; of an untied embedding one row alone.
    return {
        "tokens_per_s": rate,
        "weight_bytes": _weight_bytes(Path(settings.workspace)),
        "workspace_bytes": (Path(settings.workspace) / "rank-0.safetensors").stat().st_size,
        "peak_rss_bytes": rss().peak,
    }


def _decode_streams(settings: EngineSettings) -> dict[str, float]:
    engine = _engine_of(settings)
    one = _decode_rate(engine, 1)
    many = _decode_rate(engine, STREAMS)
    seqs = engine.stats()["seqs_per_step"]
    assert isinstance(seqs, list)
    largest = max(index + 1 for index, steps in enumerate(seqs) if steps)
    return {
        "one_stream_tokens_per_s": one,
        "streams": STREAMS,
        "all_streams_tokens_per_s": many,
        "ratio": many / one,
        "largest_step_seqs": largest,
    }


def _decode_transformers(model: str, threads: int) -> dict[str, float]:
    # torch and transformers are the peer here, not part of the engine: loaded in this child alone
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    torch.set_num_threads(threads)
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    cache = transformers.DynamicCache()
    step = torch.tensor([_prompt(network.config.vocab_size, 0)])
    stamps: list[float] = []
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            logits = network(step, past_key_values=cache, logits_to_keep=1).logits
            step = logits[:, -1].argmax(-1, keepdim=True)
            stamps.append(time.perf_counter())
    weight_bytes = sum(p.numel() * p.element_size() for p in network.parameters())
    if not network.config.tie_word_embeddings:
        weight_bytes -= network.get_input_embeddings().weight.numel() * 2
    return {
        "tokens_per_s": (len(stamps) - 1) / (stamps[-1] - stamps[0]),
        "weight_bytes": weight_bytes,
        "peak_rss_bytes": rss().peak,
    }


def _weight_bytes(workspace: Path) -> int:
    """Bytes of the tensors a decode step reads: all but padding and an untied embedding."""
    model = json.loads((workspace / "model.json").read_text())
    with (workspace / "rank-0.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    skipped = () if model["tie_word_embeddings"] else ("tok_embeddings.",)
    return sum(
        tensor["data_offsets"][1] - tensor["data_offsets"][0]
        for name, tensor in header.items()
        if name != "__metadata__" and not name.startswith(("__pad__.", *skipped))
    )


def _print_table(
    rows: list[DecodeResult], batch: dict[str, float], bandwidth: float, threads: int
) -> None:
    out = sys.stderr.write
    out(f"{cpu_name()}, {threads} threads, isa {_engine.supported_isas()[0]}, ")
    out(f"read bandwidth {bandwidth:.1f} GB/s\n\n")
    out(f"{'decode, batch 1':20} {'tokens/s':>9} {'GB/s':>7} {'of peak':>8} {'peak RSS MiB':>13}\n")
    for row in rows:
        out(f"{row.name:20} {row.tokens_per_s:9.1f} {row.gb_per_s:7.1f} ")
        out(f"{row.share_of_bandwidth:8.0%} {row.peak_rss_bytes / 2**20:13.0f}\n")
    out(f"\nW4A16, {STREAMS} streams: {batch['all_streams_tokens_per_s']:.1f} tokens/s, ")
    out(f"{batch['ratio']:.2f} x one stream ({batch['one_stream_tokens_per_s']:.1f}), ")
    out(f"largest step {batch['largest_step_seqs']:.0f} sequences\n")


if __name__ == "__main__":
    main()
