"""llm-compressor: AWQ, GPTQ (act-order in ordinary groups, its default), SmoothQuant W8A8."""

from importlib import import_module
from typing import Any


def run(job: dict[str, Any], clock: Any, around: Any) -> list[str]:  # noqa: ANN401 - of drive.py
    """Quantize and save; what should be known of the run."""
    numpy, torch = import_module("numpy"), import_module("torch")
    transformers = import_module("transformers")
    pipeline = import_module("llmcompressor.pipelines.sequential.pipeline")
    cache = import_module("llmcompressor.pipelines.cache").IntermediatesCache
    llmcompressor = import_module("llmcompressor")
    datasets = import_module("datasets")
    del around

    # pins host memory, which fails where there is no accelerator
    cache._pin_intermediate = classmethod(lambda *_: None)
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype="auto")
    ids = numpy.load(job["ids"])
    rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids.tolist()]
    _watch(pipeline, clock, job["layers"])
    with torch.no_grad():
        llmcompressor.oneshot(
            model=model,
            dataset=datasets.Dataset.from_list(rows),
            recipe=_recipe(job),
            batch_size=job["batch_size"],
            num_calibration_samples=len(ids),
            shuffle_calibration_samples=False,
            max_seq_length=ids.shape[1],
            pipeline="sequential",
            # the head apart, so that the time of the last layer is its own
            sequential_targets=["LlamaDecoderLayer", "lm_head"],
        )
    if not clock.wall_s:
        raise RuntimeError("the subgraphs are not embedding, layers, head: nothing was timed")
    model.save_pretrained(job["out"], save_compressed=True)
    return ["pinning of host memory is off"]


def _watch(pipeline: Any, clock: Any, layers: int) -> None:  # noqa: ANN401 - the tool's own
    """The first subgraph is the embedding, then a layer each, then the head."""
    batches = pipeline._get_batches

    def watched(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        words = next(one for one in (*args, *kwargs.values()) if isinstance(one, str))
        number = int(words[1:].partition("/")[0])
        if "Calibrating" in words and number == 2:
            clock.begin()
        if "Calibrating" in words and number == layers + 2:
            clock.end()
        return batches(*args, **kwargs)

    pipeline._get_batches = watched


def _recipe(job: dict[str, Any]) -> list[Any]:
    weights = {
        "num_bits": job["bits"],
        "type": "int",
        "symmetric": job["symmetric"],
        "strategy": "group" if job["group_size"] else "channel",
    }
    if job["group_size"]:
        weights["group_size"] = job["group_size"]
    scheme: dict[str, Any] = {"targets": ["Linear"], "weights": weights}
    if job["method"] == "smoothquant":
        inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token"}
        scheme["input_activations"] = {**inputs, "dynamic": True}
    groups = {"config_groups": {"group_0": scheme}, "ignore": ["lm_head"]}
    quantization = import_module("llmcompressor.modifiers.quantization")
    gptq = import_module("llmcompressor.modifiers.gptq").GPTQModifier
    if job["method"] == "awq":
        awq = import_module("llmcompressor.modifiers.transform.awq").AWQModifier
        return [awq(), quantization.QuantizationModifier(**groups)]
    if job["method"] == "smoothquant":
        smooth = import_module("llmcompressor.modifiers.transform.smoothquant")
        return [smooth.SmoothQuantModifier(smoothing_strength=0.8), gptq(**groups)]
    return [gptq(**groups)]
