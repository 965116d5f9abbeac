"""The configuration keys: the one source of truth.

OmegaConf types composition from these classes, msgspec validates the result and pydantic writes
the JSON Schema from the same field metadata. Hydra fills the classes, so they are mutable;
nothing after `lmrun.config` changes them.
"""

# ruff: noqa: RUF009 - `opt` makes a dataclass field

from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


def opt(default: Any, description: str, **rules: Any) -> Any:  # noqa: ANN401 - a field of any type
    """A field with its description and its rules (``ge``, ``le``, ``multiple_of``, ``pattern``).

    ``choices`` lists the legal numbers where a range would let others in; it becomes the
    ``enum`` of the JSON Schema. ``examples`` stand in messages where a pattern would be unreadable.
    ``item`` holds the rules (``ge``, ``le``, ``examples``) of what stands in a list or a mapping.
    """
    choices = rules.pop("choices", None)
    if choices is not None:
        rules["json_schema_extra"] = {"enum": list(choices)}
    metadata = {"description": description, **rules}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


ENTRY_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""What may be the name of an entry of a mapping: a dot would be read as a deeper key."""


class BackendName(StrEnum):
    """Engines that can serve a model."""

    native = "native"
    torch = "torch"
    vllm = "vllm"
    sglang = "sglang"
    lmdeploy = "lmdeploy"
    llama_cpp = "llama_cpp"


class IsaName(StrEnum):
    """Instruction-set levels of the native kernels."""

    auto = "auto"
    generic = "generic"
    avx2 = "avx2"
    avx512 = "avx512"
    amx = "amx"


class QuantMethod(StrEnum):
    """How the weights of the linears are quantized; ``none`` keeps the checkpoint's own type."""

    none = "none"
    rtn = "rtn"
    awq = "awq"
    gptq = "gptq"
    awq_gptq = "awq_gptq"
    autoround = "autoround"
    smoothquant = "smoothquant"
    best = "best"
    llm_int8 = "llm_int8"


class QuantRange(StrEnum):
    """How the range of a group's codes is chosen."""

    auto = "auto"
    full = "full"
    mse = "mse"


class QuantPreset(StrEnum):
    """How long learned rounding may take."""

    light = "light"
    best = "best"


class QuantFormat(StrEnum):
    """Formats of quantized checkpoints."""

    auto = "auto"
    awq = "awq"
    gptq = "gptq"
    gptq_v2 = "gptq_v2"
    compressed_tensors = "compressed_tensors"


class ComputeDevice(StrEnum):
    """Where the offline stages compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class PruneMethod(StrEnum):
    """How weights are chosen that become zero."""

    none = "none"
    magnitude = "magnitude"
    wanda = "wanda"
    sparsegpt = "sparsegpt"


class UiName(StrEnum):
    """Web pages that can stand beside the API."""

    none = "none"
    gradio = "gradio"


class PlacementName(StrEnum):
    """Where replicas run."""

    local = "local"
    ray_serve = "ray_serve"


class RopeScalingName(StrEnum):
    """RoPE scaling; ``checkpoint`` takes what config.json says."""

    checkpoint = "checkpoint"
    linear = "linear"
    dynamic = "dynamic"
    llama3 = "llama3"
    yarn = "yarn"


class WeightMemory(StrEnum):
    """Where the engine's weights are."""

    auto = "auto"
    huge_pages = "huge_pages"
    mapped = "mapped"


@dataclass
class ModelConfig:
    """Which model is served, under which name and with which chat template."""

    path: str | None = opt(
        None,
        "a checkpoint folder, a quantized folder or a workspace; a bare name is searched in"
        " $LMRUN_MODELS; `builtin:NAME` is a model lmrun makes itself",
    )
    hub_id: str | None = opt(
        None,
        "model id on the Hugging Face hub, in place of `path`; kept in the hub's own cache"
        " (HF_HOME)",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$",
        examples=["org/name"],
    )
    revision: str | None = opt(
        None,
        "commit, branch or tag on the hub; default: main. A lock refuses what may move",
        pattern=r"^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*$",
        examples=["main", "v1.0", "refs/pr/1"],
    )
    hub_token: str | None = opt(
        None,
        "access token for the hub, as a reference such as `${oc.env:HF_TOKEN}`; default: the one"
        " huggingface_hub finds",
    )
    hub_offline: bool = opt(
        False, "never ask the hub, take what its cache holds; HF_HUB_OFFLINE=1 does so too"
    )
    served_name: str | None = opt(
        None,
        "name in the API; default: the name of the folder or model",
        pattern=r"\S",
        examples=["my-model"],
    )
    chat_template: str = opt(
        "auto", "`auto` (the tokenizer's own), a name `lmrun list` shows, or a Jinja file"
    )


@dataclass
class BackendConfig:
    """The engine and its limits."""

    name: BackendName = opt(BackendName.native, "engine that serves the model")
    isa: IsaName = opt(IsaName.auto, "instruction set of the kernels; forcing a missing one fails")
    threads: int | None = opt(
        None, "compute threads; default: the cores this process may use", ge=1, le=1024
    )
    max_num_seqs: int = opt(32, "sequences that run at the same time", ge=1, le=4096)
    max_batch_tokens: int = opt(256, "token budget of one step", ge=1, le=65536)
    context_length: int | None = opt(
        None, "longest prompt plus completion, in tokens; default: the model's own", ge=8
    )
    activation_bits: int = opt(
        32,
        "bits of the inputs of a linear whose weights are codes in groups, fixed point for each"
        " group: 32 (24 of them are computed with), 16 or 8; attention over 8- or 4-bit K and V"
        " computes with 24 or, below 32, with 16",
        choices=(8, 16, 32),
    )
    rope_scaling: RopeScalingName = opt(RopeScalingName.checkpoint, "RoPE scaling")
    weight_memory: WeightMemory = opt(
        WeightMemory.auto,
        "mapped: pages of the workspace file, shared by all engines that serve it; huge_pages: a"
        " copy of each engine's own in pages of 2 MiB, made while it serves; auto: huge_pages where"
        " the system gives them and memory suffices",
    )


@dataclass
class QuantConfig:
    """Weight quantization of the decoder's linears."""

    method: QuantMethod = opt(QuantMethod.none, "quantization algorithm")
    bits: int = opt(4, "bits of a weight code: 4 or 8", choices=(4, 8))
    group_size: int = opt(
        128,
        "input features that share a scale: 32, 64 or 128; 0: a whole row (one scale an output"
        " channel)",
        choices=(0, 32, 64, 128),
    )
    symmetric: bool = opt(False, "no zero points")
    activation_bits: int = opt(
        16,
        "8: the inputs of the linears become int8 codes too, with one scale a token (W8A8)",
        choices=(8, 16),
    )
    range: QuantRange = opt(
        QuantRange.auto,
        "range of a group's codes: all its weights (full), or what has the least squared error"
        " (mse); auto: mse for gptq, else full",
    )
    act_order: bool = opt(
        True, "gptq: input features with large activations are rounded first, in fixed groups"
    )
    damping: float = opt(
        0.01, "gptq: share of the mean diagonal that is added to the Hessian", gt=0, le=1
    )
    alpha: float | None = opt(
        None,
        "smoothquant: how much of the activations' range moves into the weights; null: searched for"
        " each layer",
        ge=0,
        le=1,
    )
    rotate: bool = opt(
        False, "turn the residual stream and the values by Hadamard matrices before quantizing"
    )
    preset: QuantPreset = opt(
        QuantPreset.light, "autoround and best: how long rounding is learned, light or best"
    )
    skip: list[str] = opt(
        [],
        "linears kept in 16 bits: names such as `layers.0.mlp.down_proj`, or patterns such as"
        " `*.down_proj`",
        item={"examples": ["*.down_proj"]},
    )
    format: QuantFormat = opt(
        QuantFormat.auto,
        "of the quantized checkpoint; auto: awq for 4 bits with zero points, compressed_tensors for"
        " symmetric codes and int8 activations, else gptq_v2",
    )
    device: ComputeDevice = opt(
        ComputeDevice.auto,
        "where calibrate, prune and quantize compute; auto: a CUDA device that torch can use, else"
        " the CPU",
    )
    activation_memory: str = opt(
        "auto",
        "memory for the hidden states of the calibration text, such as `2GiB`; what is more goes to"
        " the disk",
        pattern=r"^(auto|[0-9]+(\.[0-9]+)?\s*([KMGT]i?B|B))$",
        examples=["auto", "2GiB", "500MB"],
    )


@dataclass
class PruneConfig:
    """Weights of the decoder's linears that become zero, before quantization."""

    method: PruneMethod = opt(PruneMethod.none, "pruning algorithm")
    sparsity: float = opt(0.5, "share of each linear's weights that become zero", gt=0, le=0.95)
    pattern: str = opt(
        "unstructured",
        "where the zeros may stand: anywhere in a row (unstructured), or two of every four (`2:4`)",
        choices=("unstructured", "2:4"),
    )


@dataclass
class KvConfig:
    """The KV cache."""

    bits: int = opt(
        16,
        "bits of a stored key or value element: 16, 8 or 4; 32 to compare with a reference",
        choices=(4, 8, 16, 32),
    )
    memory_ratio: float = opt(
        0.8, "share of the memory left after weights and workspace", gt=0, le=1
    )
    memory: str = opt(
        "auto",
        "size of the cache, such as `2GiB`, or `auto`",
        pattern=r"^(auto|[0-9]+(\.[0-9]+)?\s*([KMGT]i?B|B))$",
        examples=["auto", "2GiB", "500MB"],
    )
    keep: int = opt(
        0, "layers kept at `keep_bits`: those with the largest expected error at `bits`", ge=0
    )
    keep_bits: int = opt(16, "bits of the layers that are kept: 16 or 8", choices=(8, 16))
    keep_layers: list[int] = opt(
        [], "layers kept at `keep_bits`, by their number, in place of `keep`", item={"ge": 0}
    )
    block_size: int = opt(64, "tokens in a block", ge=16, le=256, multiple_of=16)
    prefix_caching: bool = opt(True, "reuse the blocks of an equal prompt prefix")


@dataclass
class CalibrationConfig:
    """Text that the quantizer looks at."""

    data: str = opt(
        "builtin:sample",
        "a local .txt, .jsonl or .json.gz file (field `text`, or `messages` of chats),"
        " `builtin:sample`, or `hub:DATASET[:SPLIT[:FIELD]]`",
    )
    samples: int = opt(128, "sequences", ge=1)
    seq_len: int = opt(512, "tokens in a sequence", ge=8)
    batch_size: int | None = opt(
        None, "sequences in one forward pass; null: as many as make 2048 tokens", ge=1
    )
    seed: int = opt(0, "which sequences are taken", ge=0)
    statistics_samples: int = opt(
        16,
        "of the sequences, how many the ranges, means and KV errors of calibrate are taken from",
        ge=1,
    )


@dataclass
class ParallelConfig:
    """Tensor parallelism and replicas."""

    tp: int = opt(1, "tensor-parallel degree", ge=1)
    replicas: int = opt(1, "engines behind the API", ge=1)
    placement: PlacementName = opt(PlacementName.local, "where the replicas run")


@dataclass
class DeviceConfig:
    """The machine that is planned for. `auto` looks at this one."""

    name: str = opt("auto", "`auto`, or the name of a described machine")
    kind: str = opt("cpu", "cpu or cuda", pattern=r"^(cpu|cuda)$", examples=["cpu", "cuda"])
    memory_gib: float | None = opt(None, "memory of one device, GiB", gt=0)
    count: int = opt(1, "devices", ge=1)
    cores: int | None = opt(None, "cores of a CPU", ge=1)
    bandwidth_gb_s: float | None = opt(None, "read bandwidth of one device, GB/s", gt=0)
    peak_gflop_s: float | None = opt(
        None, "peak rate of one device with 16-bit inputs, dense, GFLOP/s", gt=0
    )
    peak_int8_gop_s: float | None = opt(
        None, "peak rate of one device with 8-bit integers, dense, Gop/s", gt=0
    )
    workspace: str = opt(
        "auto",
        "memory of a device kept for the engine process and activations, such as `1GiB` or `0B`,"
        " or `auto`",
        pattern=r"^(auto|[0-9]+(\.[0-9]+)?\s*([KMGT]i?B|B))$",
        examples=["auto", "1GiB", "0B"],
    )
    source: str | None = opt(None, "where the numbers come from")


@dataclass
class FrontendConfig:
    """The HTTP server and the web page."""

    host: str = opt("127.0.0.1", "address the API listens on")
    port: int = opt(23333, "port of the API", ge=1, le=65535)
    ui: UiName = opt(UiName.none, "web page beside the API")
    ui_port: int = opt(7860, "port of the web page", ge=1, le=65535)
    drain_s: float = opt(30.0, "seconds that running requests get at a stop", ge=0)
    api_keys: list[str] = opt([], "accepted API keys, as references such as `${oc.env:KEY}`")


@dataclass
class EvaluateConfig:
    """Quality: what is measured, and the bounds that a deployment must keep."""

    data: str | None = opt(
        None,
        "text for perplexity, KL divergence and top-1 agreement: a local .txt or .jsonl file (field"
        " `text`), or `builtin:stories`",
    )
    window: int = opt(256, "tokens of a window of the text, BOS included", ge=8)
    max_tokens: int = opt(65535, "tokens of the text that are predicted, at most", ge=1)
    kl_tokens: int = opt(
        4096,
        "predicted tokens whose full distribution is compared with the baseline, for KL divergence"
        " and top-1 agreement; 0: none",
        ge=0,
    )
    tasks: dict[str, str] = opt(
        {},
        "task files by name: JSONL with choices, or with exact answers",
        item={"examples": ["./arc.jsonl"]},
    )
    task_limit: int | None = opt(
        None, "items of each task and of the tools file that are taken, from its start", ge=1
    )
    tools: str | None = opt(None, "a file of tool calls, or `builtin:tools`")
    baseline: str | None = opt(
        None,
        "a checkpoint folder to compare with; default: the model itself, unquantized, with a"
        " 16-bit KV cache",
    )
    max_ppl: float | None = opt(None, "highest perplexity that passes", gt=0)
    max_ppl_ratio: float | None = opt(
        None, "highest perplexity that passes, as a multiple of the baseline's", gt=0
    )
    max_kl: float | None = opt(None, "highest mean KL divergence that passes, nats a token", ge=0)
    min_top1: float | None = opt(
        None, "lowest share of tokens that passes on which the baseline agrees", ge=0, le=1
    )
    min_task_accuracy: dict[str, float] = opt(
        {}, "lowest accuracy that passes, by the name of a task", item={"ge": 0, "le": 1}
    )
    min_tool_accuracy: float | None = opt(
        None, "lowest share of right tool calls that passes", ge=0, le=1
    )
    tolerance: float = opt(
        0.005,
        "how far `verify` lets a figure move: relative for perplexity and KL divergence, absolute"
        " for shares",
        ge=0,
        le=1,
    )


@dataclass
class BenchConfig:
    """Speed: the load that `lmrun bench` puts on a deployment."""

    prompt_tokens: int = opt(128, "tokens of each prompt", ge=1)
    output_tokens: int = opt(32, "tokens that each request generates", ge=1)
    concurrency: list[int] = opt(
        [1, 4], "levels: requests that are open at the same time", item={"ge": 1, "le": 4096}
    )
    requests: int = opt(8, "requests of a level in a round, and of a trace: the first ones", ge=1)
    rounds: int = opt(3, "times that each level is measured", ge=1)
    seed: int = opt(0, "of the prompts", ge=0)
    trace: str | None = opt(
        None,
        "a CSV file of arrivals in place of levels: arrival time, prompt tokens, generated tokens",
    )
    trace_speedup: float = opt(
        1.0, "by which the times between the arrivals of a trace are divided", gt=0
    )
    max_ttft_ms: float = opt(
        1000.0, "goodput of a trace: a good request's first text comes within this", gt=0
    )
    max_itl_ms: float = opt(
        50.0, "goodput of a trace: a good request's mean inter-token latency is within this", gt=0
    )


@dataclass
class RunConfig:
    """Everything a deployment says."""

    model: ModelConfig = field(default_factory=ModelConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    kv: KvConfig = field(default_factory=KvConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
