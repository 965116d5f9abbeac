"""The document of `lmrun bench engine`: figures beside ceilings, ratios to the best peer."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmrun.artifacts.measurements import cpu_name
from lmrun.bench.engine import Figure, Results
from lmrun.bench.engine_cases import STEP_TOKENS, Case
from lmrun.bench.peers.stepping import SHORT_PROMPT
from lmrun.json_schema import (
    BOOLEAN,
    COUNT,
    TEXT,
    TEXTS,
    Schema,
    document,
    mapping,
    or_null,
    record,
    records,
)
from lmrun.models.safetensors_header import read_header
from lmrun.models.workspace import RANK_FILE, read_workspace

SCHEMA_VERSION = 1
NAME = "engine"


@dataclass(frozen=True)
class Work:
    """What a model costs our engine."""

    parameters: int
    weight_bytes: int
    """That a step reads: all but an untied embedding."""
    kv_token_bytes: float
    linear_operations: int
    """Of a token in the layers; a multiply-add counts as two."""
    head_operations: int
    """Of a row of logits."""
    attention_operations: int
    """Of a token, for each position that it sees."""

    @classmethod
    def of(cls, workspace: Path, kv_token_bytes: float) -> "Work":
        """From the workspace."""
        info = read_workspace(workspace)
        spec = info.spec
        skipped = () if spec.tie_word_embeddings else ("tok_embeddings.",)
        read = sum(
            entry.num_bytes
            for name, entry in read_header(workspace / RANK_FILE).items()
            if not name.startswith(("__pad__.", *skipped))
        )
        weights = sum(
            linear.out_features * linear.in_features
            for index in range(spec.num_layers)
            for linear in spec.layer(index)
        )
        attention = 4 * spec.num_heads * spec.head_dim * spec.num_layers
        head = 2 * spec.hidden_size * spec.vocab_size
        return cls(spec.num_parameters(), read, kv_token_bytes, 2 * weights, head, attention)

    def speed(self, figure: Figure, new_tokens: int) -> tuple[float, float] | None:
        """Bytes/s and operations/s of the best round; None of a trace and a start."""
        case, rate = figure.case, figure.best
        if rate is None or case.kind not in ("decode", "prefill"):
            return None
        if case.kind == "decode":
            context = max(case.context, SHORT_PROMPT) + new_tokens / 2
            step = self.weight_bytes + case.batch * context * self.kv_token_bytes
            token = self.linear_operations + self.head_operations
            return step * rate / case.batch, (token + context * self.attention_operations) * rate
        length = case.context
        steps = -(-length // STEP_TOKENS)
        seen = length * (length + 1) / 2
        operations = (
            self.linear_operations * length
            + self.head_operations
            + self.attention_operations * seen
        )
        return self.weight_bytes * steps * rate / length, operations * rate / length


def report(results: Results, works: dict[str, Work]) -> dict[str, Any]:
    """The document, which fits `SCHEMA`; ``works`` by the name of each engine that is ours."""
    settings = results.settings
    trace = settings.trace
    return {
        "schema_version": SCHEMA_VERSION,
        "bench": NAME,
        "shape": settings.shape,
        "cpu": cpu_name(),
        "threads": settings.threads,
        "rounds": settings.rounds,
        "new_tokens": settings.new_tokens,
        "step_tokens": STEP_TOKENS,
        "trace": None if trace is None else {"file": trace.file, "sha256": trace.sha256},
        "complete": not results.failed,
        "failed": results.failed,
        "lacking": results.lacking,
        "ceilings": asdict(results.peaks),
        "engines": [
            {
                "name": entry.engine.name,
                "is_ours": entry.is_ours,
                **{"version": "", "isa": "", **results.about.get(entry.engine.name, {})},
                "weights": entry.weights,
                "kv_bits": entry.kv_bits,
                "activations": entry.activations,
                "weight_bytes": _weight_bytes(results, works, entry.engine.name),
                "figures": [
                    _figure(results, figure, works.get(entry.engine.name))
                    for figure in results.figures(entry.engine.name)
                ],
            }
            for entry in results.entries
        ],
        "ratios": list(ratios(results)),
    }


def _weight_bytes(results: Results, works: dict[str, Work], name: str) -> int | None:
    return works[name].weight_bytes if name in works else results.weight_bytes.get(name)


def _figure(results: Results, figure: Figure, work: Work | None) -> dict[str, Any]:
    speed = None if work is None else work.speed(figure, results.settings.new_tokens)
    bytes_per_s, operations_per_s = speed or (None, None)
    peak = results.peaks.read_bytes_per_s
    return {
        "kind": figure.case.kind,
        "batch": figure.case.batch,
        "context": figure.case.context,
        "tokens_per_s": list(figure.rates),
        "best": figure.best,
        "median": figure.middle,
        "bytes_per_s": bytes_per_s,
        "operations_per_s": operations_per_s,
        "share_of_read": bytes_per_s / peak if bytes_per_s and peak else None,
        "peak_rss_bytes": figure.peak_rss_bytes,
        "others_busy": list(figure.others_busy),
        "detail": figure.detail,
    }


def ratios(results: Results) -> Iterator[dict[str, Any]]:
    """For each case and each of our settings: ours over the best peer, best rounds and medians."""
    peers: dict[Case, dict[str, Figure]] = {}
    for entry in results.entries:
        if not entry.is_ours:
            for figure in results.figures(entry.engine.name):
                peers.setdefault(figure.case, {})[entry.engine.name] = figure
    for entry in results.entries:
        if not entry.is_ours:
            continue
        for figure in results.figures(entry.engine.name):
            others = {n: f for n, f in peers.get(figure.case, {}).items() if f.best is not None}
            if figure.best is None or figure.middle is None or not others:
                continue
            best = max(others, key=lambda name: others[name].best or 0)
            middle = max(one.middle or 0 for one in others.values())
            yield {
                "engine": entry.engine.name,
                "kind": figure.case.kind,
                "batch": figure.case.batch,
                "context": figure.case.context,
                "best_peer": best,
                "ratio": figure.best / (others[best].best or 1),
                "median_ratio": figure.middle / middle if middle else None,
            }


_NUMBER: Schema = {"type": "number"}
_NUMBERS: Schema = {"type": "array", "items": _NUMBER}
_CASE: dict[str, Schema] = {
    "kind": {"enum": ["decode", "prefill", "trace", "start"]},
    "batch": COUNT,
    "context": COUNT,
}
SCHEMA: Schema = document(
    "lmrun bench engine",
    SCHEMA_VERSION,
    bench={"const": NAME},
    shape=TEXT,
    cpu=TEXT,
    threads=COUNT,
    rounds=COUNT,
    new_tokens=COUNT,
    step_tokens=COUNT,
    trace=or_null(record(file=TEXT, sha256=TEXT)),
    complete=BOOLEAN,
    failed=TEXTS,
    lacking=TEXTS,
    ceilings=record(
        read_bytes_per_s=_NUMBER,
        fp32_flops_per_s=_NUMBER,
        bf16_flops_per_s=_NUMBER,
        int8_ops_per_s=_NUMBER,
    ),
    engines=records(
        name=TEXT,
        is_ours=BOOLEAN,
        version=TEXT,
        isa=TEXT,
        weights=TEXT,
        kv_bits=COUNT,
        activations=TEXT,
        weight_bytes=or_null(COUNT),
        figures=records(
            **_CASE,
            tokens_per_s=_NUMBERS,
            best=or_null(_NUMBER),
            median=or_null(_NUMBER),
            bytes_per_s=or_null(_NUMBER),
            operations_per_s=or_null(_NUMBER),
            share_of_read=or_null(_NUMBER),
            peak_rss_bytes=COUNT,
            others_busy=_NUMBERS,
            detail=mapping(_NUMBER),
        ),
    ),
    ratios=records(
        engine=TEXT,
        **_CASE,
        best_peer=TEXT,
        ratio=_NUMBER,
        median_ratio=or_null(_NUMBER),
    ),
)
