"""Engine processes on tiny made-up workspaces: what a process takes beside its model, and what a
step takes beside reading its bytes."""

import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from lmrun.engine import wire
from lmrun.engine.launch import start_worker
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
from lmrun.errors import EngineError
from lmrun.plan.engine_settings import EngineSettings
from lmrun.stages.tensor_files import LazyTensor
from lmrun.stages.workspace_writer import write_workspace

HIDDEN, VOCAB, HEAD_DIM, CONTEXT = 64, 272, 32, 128
FEW_LAYERS, MANY_LAYERS = 1, 17
READY_S = 60.0
TOKENS_A_REQUEST = 48
"""Short enough that on a busy machine one request is left alone."""

_Kind = TypeVar("_Kind", bound=Event)


@dataclass(frozen=True)
class Overheads:
    """What has nothing to do with the size of a model."""

    step_s: float
    """Of a decode step of one sequence."""
    layer_s: float
    """Of each layer in it."""
    process_bytes: int
    """Resident memory of an engine process beside weights, KV blocks and activations."""


def measure_overheads(threads: int, requests: int) -> Overheads:
    """Run two engines, one of more layers than the other; the best of so many requests each."""
    few = _probe(FEW_LAYERS, threads, requests)
    many = _probe(MANY_LAYERS, threads, requests)
    layer_s = max(0.0, (many.step_s - few.step_s) / (MANY_LAYERS - FEW_LAYERS))
    return Overheads(
        step_s=max(0.0, few.step_s - FEW_LAYERS * layer_s),
        layer_s=layer_s,
        process_bytes=few.process_bytes,
    )


@dataclass(frozen=True)
class _Found:
    step_s: float
    process_bytes: int


def _probe(layers: int, threads: int, requests: int) -> _Found:
    with tempfile.TemporaryDirectory(prefix="lmrun-") as name:
        folder = Path(name)
        settings = write_tiny(folder, layers, threads)
        log = folder / "engine.log"
        worker = start_worker(settings, socket_path=folder / "engine.sock", log_path=log)
        try:
            worker.wait_ready(READY_S)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.connect(str(folder / "engine.sock"))
                next_event(stream, Ready)
                step_s = min(_seconds_a_step(stream, number) for number in range(requests))
                memory = asked(stream, "memory", Memory)
        finally:
            worker.stop()
    beside = (memory.weights_bytes or 0) + (memory.kv_bytes or 0)
    return _Found(step_s, memory.peak_rss_bytes - beside)


def _seconds_a_step(stream: socket.socket, number: int) -> float:
    """Of the steps of one request, with what the step loop spends between them."""
    before = asked(stream, "stats", Stats)
    sampling = SamplingParams(temperature=0.0, max_tokens=TOKENS_A_REQUEST)
    request = Submit(request_id=str(number), prompt_token_ids=(1, 2, 3), sampling=sampling)
    stream.sendall(wire.pack(request))
    while next_event(stream, Tokens).finish_reason is None:
        pass
    after = asked(stream, "stats", Stats)
    return (after.busy_seconds - before.busy_seconds) / (after.num_steps - before.num_steps)


def asked(
    stream: socket.socket,
    what: Literal["stats", "memory", "effective_config"],
    kind: type[_Kind],
) -> _Kind:
    """What an engine answers. Raises `EngineError` for another answer, `OSError`."""
    stream.sendall(wire.pack(Ask(what=what)))
    return next_event(stream, kind)


def next_event(stream: socket.socket, kind: type[_Kind]) -> _Kind:
    """The next event of an engine, which must be of this kind; raises as `asked`."""
    body = wire.read_frame(stream)
    event = None if body is None else wire.unpack_event(body)
    if not isinstance(event, kind):
        raise EngineError(f"probe: expected {kind.__name__} of the engine, got {event}.")
    return event


def write_tiny(folder: Path, layers: int, threads: int) -> EngineSettings:
    """A workspace whose matrices are small enough to cost nothing, and settings to run it."""
    heads = HIDDEN // HEAD_DIM
    write_workspace(
        folder,
        {
            "architecture": "LlamaForCausalLM",
            "hidden_size": HIDDEN,
            "intermediate_size": HIDDEN,
            "num_layers": layers,
            "num_heads": heads,
            "num_kv_heads": heads,
            "head_dim": HEAD_DIM,
            "vocab_size": VOCAB,
            "context_length": CONTEXT,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "qkv_bias": False,
            "qk_norm": False,
            "attention_scale": HEAD_DIM**-0.5,
            "rope_attention_factor": 1.0,
            "bos_token_id": 1,
            "eos_token_ids": [2],
            "weights": {
                "method": "none",
                "bits": 32,
                "group_size": 0,
                "symmetric": False,
                "activation_bits": 16,
            },
            "source": {"checkpoint": "none"},
        },
        _tensors(layers),
    )
    return EngineSettings(
        workspace=str(folder),
        isa="auto",
        threads=threads,
        num_blocks=4,
        block_size=64,
        kv_bits=16,
        activation_bits=32,
        max_num_seqs=1,
        max_batch_tokens=8,
        context_length=CONTEXT,
        prefix_caching=False,
    )


def _tensors(layers: int) -> Iterator[LazyTensor]:
    yield _matrix("tok_embeddings", VOCAB)
    for layer in range(layers):
        name = f"layers.{layer}"
        yield _vector(f"{name}.attention_norm.weight", HIDDEN)
        yield _vector(f"{name}.ffn_norm.weight", HIDDEN)
        yield _matrix(f"{name}.attention.w_qkv.0", 3 * HIDDEN)
        yield _matrix(f"{name}.attention.wo.0", HIDDEN)
        yield _matrix(f"{name}.feed_forward.w13.0", 2 * HIDDEN)
        yield _matrix(f"{name}.feed_forward.w2.0", HIDDEN)
    yield _vector("norm.weight", HIDDEN)
    yield _vector("rope.inv_freq", HEAD_DIM // 2)


def _matrix(name: str, features: int) -> LazyTensor:
    values = np.full((features // 16, HIDDEN, 16), 0.01, np.float32)
    return LazyTensor.of(f"{name}.weight", values)


def _vector(name: str, size: int) -> LazyTensor:
    return LazyTensor.of(name, np.ones(size, np.float32))
