"""OpenVINO GenAI under the loads of `stepping`: run by the Python of the peers' environment.

    python openvino_engine.py JOB.json

The job is a JSON object: `do` (`make` with `checkpoint` and `model`, `isa` with `model`, or a load
of `stepping.run`), `model` (folder of the IR), `threads`, `num_tokens` that the cache is to hold,
`max_num_seqs`, `step_tokens`, `kv_bits` (16, 8 or 4), `precision` (`default` or `f32`). The last
line of stdout is the result.
"""

import ctypes
import importlib
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

# what the peers' environment has, and neighbours of this file
ov: Any = importlib.import_module("openvino")
genai: Any = importlib.import_module("openvino_genai")
openvino_model: Any = importlib.import_module("openvino_model")
stepping: Any = importlib.import_module("stepping")
checkpoint_arrays: Any = importlib.import_module("checkpoint_arrays")

_PR_SET_PDEATHSIG = 1
_BLOCK_TOKENS = 32
_SMALL_VOCABULARY = 256
_KV_TYPES = {16: "f16", 8: "u8", 4: "u4"}


class OpenVino:
    """A pipeline with continuous batching."""

    def __init__(self, job: dict[str, Any]) -> None:
        folder = Path(job["model"])
        self.vocab_size = int(checkpoint_arrays.read_config(folder)["vocab_size"])
        self.step_tokens = int(job["step_tokens"])
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_batched_tokens = self.step_tokens
        scheduler.max_num_seqs = int(job["max_num_seqs"])
        # a block more for each sequence than its tokens fill
        blocks = -(-int(job["num_tokens"]) // _BLOCK_TOKENS) + 2 * scheduler.max_num_seqs
        scheduler.num_kv_blocks = blocks
        scheduler.enable_prefix_caching = job["do"] == "decode"
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(folder), scheduler, "CPU", properties=properties(job)
        )
        self._handles: dict[int, Any] = {}

    def submit(self, request_id: int, prompt: list[int], max_tokens: int) -> None:
        """Queue a completion."""
        wanted = genai.GenerationConfig()
        wanted.max_new_tokens = max_tokens
        wanted.ignore_eos = True
        wanted.do_sample = False
        ids = ov.Tensor(np.array([prompt], np.int64))
        self._handles[request_id] = self._pipeline.add_request(request_id, ids, wanted)

    def step(self) -> dict[int, int]:
        """Make a step."""
        self._pipeline.step()
        got = {}
        for request_id, handle in list(self._handles.items()):
            if handle.can_read():
                outputs = handle.read()
                got[request_id] = sum(len(one.generated_ids) for one in outputs.values())
            if handle.get_status() != genai.GenerationStatus.RUNNING:
                del self._handles[request_id]
        return got

    def abort(self, request_id: int) -> None:
        """End a request."""
        if request_id in self._handles:
            self._handles.pop(request_id).cancel()

    def has_work(self) -> bool:
        """Whether a request is open."""
        return bool(self._pipeline.has_non_finished_requests())


def properties(job: dict[str, Any]) -> dict[str, Any]:
    """Of the CPU plugin."""
    found: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": int(job["threads"]),
        "KV_CACHE_PRECISION": _KV_TYPES[int(job["kv_bits"])],
    }
    if job["precision"] != "default":
        found["INFERENCE_PRECISION_HINT"] = job["precision"]
    return found


def used_isa(job: dict[str, Any]) -> str:
    """Kernels of the linears in a graph of one layer of the shape, after steps of 1 and 32 rows."""
    config = {**checkpoint_arrays.read_config(Path(job["model"])), "vocab_size": _SMALL_VOCABULARY}
    model = openvino_model.build(config, _Zeros(config), 1)
    compiled = ov.Core().compile_model(model, "CPU", properties(job))
    request = compiled.create_infer_request()
    kernels = []
    for rows in (1, 32):
        request.infer(
            {
                "input_ids": np.ones((1, rows), np.int64),
                "attention_mask": np.ones((1, rows), np.int64),
                "position_ids": np.arange(rows)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
        )
        request.reset_state()
        kinds = Counter(
            _said(info["primitiveType"])
            for node in compiled.get_runtime_model().get_ops()
            if _said((info := node.get_rt_info())["layerType"]) == "FullyConnected"
        )
        kernels += [kind for kind, _ in kinds.most_common()]
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    group = compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")
    return (
        f"{', '.join(dict.fromkeys(kernels))}; inference precision {precision}, dynamic"
        f" quantization group {group}"
    )


def _said(info: Any) -> str:  # noqa: ANN401 - what OpenVINO has there differs by version
    return str(getattr(info, "value", info))


class _Zeros:
    """Weights for a graph that is looked at, not run."""

    def __init__(self, config: dict[str, Any]) -> None:
        hidden, dim = config["hidden_size"], config["head_dim"]
        queries = config["num_attention_heads"] * dim
        keys = config["num_key_value_heads"] * dim
        wide = config["intermediate_size"]
        self._shapes = {
            "q_proj": (queries, hidden),
            "k_proj": (keys, hidden),
            "v_proj": (keys, hidden),
            "o_proj": (hidden, queries),
            "gate_proj": (wide, hidden),
            "up_proj": (wide, hidden),
            "down_proj": (hidden, wide),
            "embed_tokens": (config["vocab_size"], hidden),
            "lm_head": (config["vocab_size"], hidden),
        }
        self._hidden = hidden

    def __getitem__(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.ones(self._shapes.get(name.split(".")[-2], (self._hidden,)), np.float32)


def main(path: str) -> None:
    """Run one job."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    if job["do"] == "make":
        openvino_model.write(Path(job["checkpoint"]), Path(job["model"]))
        found: dict[str, Any] = {}
    elif job["do"] == "isa":
        found = {"isa": used_isa(job), "version": genai.get_version()}
    else:
        found = stepping.run(OpenVino(job), job)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
