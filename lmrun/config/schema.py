"""The configuration keys: the one source of truth.

OmegaConf types composition from these classes, msgspec validates the result and pydantic writes
the JSON Schema from the same field metadata. Hydra fills the classes, so they are mutable;
nothing after `lmrun.config` changes them.
"""

# ruff: noqa: RUF009 - `opt` makes a dataclass field

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


def opt(default: Any, description: str, **rules: Any) -> Any:  # noqa: ANN401 - a field of any type
    """A field with its description and its rules (``ge``, ``le``, ``multiple_of``, ``pattern``).

    ``choices`` lists the legal numbers where a range would let others in; it becomes the
    ``enum`` of the JSON Schema. ``examples`` stand in messages where a pattern would be unreadable.
    """
    choices = rules.pop("choices", None)
    if choices is not None:
        rules["json_schema_extra"] = {"enum": list(choices)}
    metadata = {"description": description, **rules}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


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
    """How the weights of the linears are stored; ``none`` keeps the checkpoint's own type."""

    none = "none"
    rtn = "rtn"
    awq = "awq"
    gptq = "gptq"
    smoothquant = "smoothquant"


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
        32, "bits of the activations inside a linear: 32, 16 or 8", choices=(8, 16, 32)
    )
    rope_scaling: RopeScalingName = opt(RopeScalingName.checkpoint, "RoPE scaling")


@dataclass
class QuantConfig:
    """Weight quantization of the decoder's linears."""

    method: QuantMethod = opt(QuantMethod.none, "quantization algorithm")
    bits: int = opt(4, "bits of a weight code: 4 or 8", choices=(4, 8))
    group_size: int = opt(
        128, "input features that share a scale: 32, 64 or 128", ge=32, le=1024, multiple_of=32
    )
    symmetric: bool = opt(False, "no zero points")
    skip: list[str] = opt([], "names of linears kept in 16 bits, e.g. `layers.0.mlp.down_proj`")


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
    block_size: int = opt(64, "tokens in a block", ge=16, le=256, multiple_of=16)
    prefix_caching: bool = opt(True, "reuse the blocks of an equal prompt prefix")


@dataclass
class CalibrationConfig:
    """Text that the quantizer looks at."""

    data: str = opt(
        "builtin:sample", "a local .txt or .jsonl file (field `text`), or `builtin:sample`"
    )
    samples: int = opt(128, "sequences", ge=1)
    seq_len: int = opt(512, "tokens in a sequence", ge=8)
    batch_size: int = opt(8, "sequences in one forward pass", ge=1)
    seed: int = opt(0, "which sequences are taken", ge=0)


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
class RunConfig:
    """Everything a deployment says."""

    model: ModelConfig = field(default_factory=ModelConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    kv: KvConfig = field(default_factory=KvConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
