"""GPTQModel: GPTQ (act_group_aware, its default) and AWQ."""

from importlib import import_module
from typing import Any


def run(job: dict[str, Any], clock: Any, around: Any) -> list[str]:  # noqa: ANN401 - of drive.py
    """Quantize and save; what should be known of the run."""
    numpy, torch = import_module("numpy"), import_module("torch")
    gptqmodel = import_module("gptqmodel")
    looper: Any = import_module("gptqmodel.looper.module_looper")
    config = import_module("gptqmodel.quantization.config")
    looper.run_layer_stage = around(clock, looper.run_layer_stage)
    settings: dict[str, Any] = {
        "bits": job["bits"],
        "group_size": job["group_size"] or -1,
        "sym": job["symmetric"],
    }
    notes = []
    if job["method"] == "awq":
        settings |= {"method": config.METHOD.AWQ, "format": config.FORMAT.GEMM}
        dtype = torch.float16  # its packing takes 16-bit models alone
        notes.append("the model is loaded in float16, which its AWQ packs alone")
    else:
        dtype = torch.bfloat16
    model = gptqmodel.GPTQModel.load(
        job["model"], gptqmodel.QuantizeConfig(**settings), dtype=dtype, device="cpu"
    )
    rows = [
        {"input_ids": row, "attention_mask": [1] * len(row)}
        for row in numpy.load(job["ids"]).tolist()
    ]
    model.quantize(rows, batch_size=job["batch_size"], calibration_data_min_length=1)
    model.save(job["out"])
    return notes
