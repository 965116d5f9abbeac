"""AutoRound: learned rounding; with 50 iterations its light recipe."""

from importlib import import_module
from typing import Any

LIGHT_ITERATIONS = 50
LIGHT_RATE = 5e-3
"""As in the tool's own recipe `light`."""


def run(job: dict[str, Any], clock: Any, around: Any) -> list[str]:  # noqa: ANN401 - of drive.py
    """Quantize and save; what should be known of the run."""
    numpy, torch = import_module("numpy"), import_module("torch")
    transformers = import_module("transformers")
    composer = import_module("auto_round.algorithms.composer")
    auto_round = import_module("auto_round")
    owner: Any = next(
        one
        for one in vars(composer).values()
        if isinstance(one, type) and "compress_block" in vars(one)
    )
    owner.compress_block = around(clock, vars(owner)["compress_block"])
    ids = torch.tensor(numpy.load(job["ids"]).tolist())
    size = job["batch_size"]
    batches = [ids[start : start + size] for start in range(0, len(ids), size)]
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype="auto")
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    iterations = job["iterations"]
    rate = {"lr": LIGHT_RATE} if iterations == LIGHT_ITERATIONS else {}
    scheme = {
        "bits": job["bits"],
        "group_size": job["group_size"] or -1,
        "sym": job["symmetric"],
        "data_type": "int",
        "act_bits": 16,
    }
    tuner = auto_round.AutoRound(
        model,
        tokenizer=tokenizer,
        scheme=scheme,
        dataset=batches,
        iters=iterations,
        seqlen=ids.shape[1],
        nsamples=len(ids),
        batch_size=size,
        device_map="cpu",
        **rate,
    )
    tuner.quantize_and_save(job["out"], format="auto_round")
    return ["bfloat16 autocast, as it comes"]
