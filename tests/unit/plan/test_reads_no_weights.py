"""Fingerprinting a large folder: hashed once, then no weight is read again. Files are sparse."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from lmrun.models.registry import spec_from_config
from lmrun.stages.resolve import tokenizer_document

SHARDS = 4
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}
"""14.96 GiB."""
SMALL = {**LLAMA_8B, "num_hidden_layers": 2, "vocab_size": 4096, "intermediate_size": 1024}
"""228 MiB."""

PLAN = """
import json, sys, time
from pathlib import Path
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.plan.planner import make_plan
def read_bytes():
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])
composed = compose([f"model.path={sys.argv[1]}", "quant=awq_w4_g128"])
before, start = read_bytes(), time.process_time()
plan = make_plan(composed, Store(Path(sys.argv[2])))
print(json.dumps({
    "read": read_bytes() - before,
    "cpu_s": time.process_time() - start,
    "unhashed": len(plan.unhashed),
    "fingerprints": [stage.fingerprint for stage in plan.stages],
}))
"""
HASH = """
import sys
from pathlib import Path
from lmrun import log
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.plan.planner import make_plan
from lmrun.stages.resolve import hash_inputs
log.setup()
store = Store(Path(sys.argv[2]))
plan = make_plan(compose([f"model.path={sys.argv[1]}", "quant=awq_w4_g128"]), store)
hash_inputs(store.home, plan.unhashed)
"""


def _write_sparse(folder: Path, config: dict[str, object]) -> int:
    """A sharded checkpoint whose headers are right and whose data are holes; its bytes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_document(512)))
    tensors = list(spec_from_config(config, "config.json").float_tensors().items())
    index: dict[str, str] = {}
    total = 0
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        header: dict[str, object] = {}
        end = 0
        for tensor, shape in tensors[shard::SHARDS]:
            start, end = end, end + 2 * (shape[0] * shape[1] if len(shape) == 2 else shape[0])
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
            index[tensor] = name
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        total += end
    document = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document))
    return total


def _run(code: str, folder: Path, home: Path) -> dict[str, object]:
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(home)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout or "{}")
    return found


@pytest.mark.parametrize(
    ("config", "at_least"),
    [
        pytest.param(SMALL, 200 << 20, id="228MiB"),
        pytest.param(
            LLAMA_8B,
            int(14.9 * 2**30),
            id="15GiB",
            marks=[pytest.mark.slow, pytest.mark.timeout(1200)],
        ),
    ],
)
def test_a_second_fingerprinting_reads_no_weights(
    tmp_path: Path, config: dict[str, object], at_least: int
) -> None:
    folder, home = tmp_path / "model", tmp_path / "home"
    assert _write_sparse(folder, config) >= at_least
    first = _run(PLAN, folder, home)
    assert first["unhashed"] == SHARDS + 3
    assert first["fingerprints"] == [None] * 4
    _run(HASH, folder, home)
    second = _run(PLAN, folder, home)
    assert second["unhashed"] == 0
    assert None not in second["fingerprints"]  # type: ignore[operator]
    assert int(str(second["read"])) < 2 << 20, "headers, config, tokenizer and the cache alone"
    assert float(str(second["cpu_s"])) < 0.5
    touched = next(folder.glob("*-of-*.safetensors"))
    os.utime(touched)
    third = _run(PLAN, folder, home)
    assert third["unhashed"] == 1, "a new stamp is hashed again, the other shards are not"


def test_hashing_shows_its_progress_on_a_terminal(tmp_path: Path) -> None:
    folder, home = tmp_path / "model", tmp_path / "home"
    _write_sparse(folder, SMALL)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", HASH, str(folder), str(home)],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break  # the child has closed its side
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert child.wait(60) == 0
    assert b"hash inputs" in shown
    assert b"MiB" in shown
