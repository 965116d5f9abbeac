"""The native engine (csrc/bindings).

Errors: ValueError for what a caller can mend, else RuntimeError.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

class EffectiveSettings(TypedDict):
    """The fields of `EngineSettings`; for type checkers alone, at run time it is a dict."""

    workspace: str
    isa: str
    threads: int
    num_blocks: int
    block_size: int
    kv_bits: int | list[int]
    """One number where all layers have the same, else one a layer."""
    activation_bits: int
    max_num_seqs: int
    max_batch_tokens: int
    context_length: int
    prefix_caching: bool
    weight_memory: str

class StepOutput:
    """What one step did to one request."""

    id: int
    token_ids: list[int]
    logprobs: list[float]
    """One per token id; empty unless asked for."""
    top_logprobs: list[list[tuple[int, float]]]
    """Per token id the asked-for number of best (id, logprob) pairs; empty unless asked for."""
    finish_reason: str | None
    """`stop`, `length`, `abort` or `error` on the last output of a request."""
    error: str | None
    """Why the request ended with `error`: logits that are not finite."""
    num_cached_tokens: int
    scores: npt.NDArray[np.float32] | None
    """On the last output of `score`: log-probability of each next token, from the first that is
    told, [len(tokens) - 1 - first]."""
    score_top: tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None
    """Beside `scores`, where `top` was asked for: ids and log-probabilities of the best next tokens
    at each position, both [len(tokens) - 1 - first, top], best first, ties by lowest id."""
    score_rows: npt.NDArray[np.float32] | None
    """Beside `scores`, where `rows` was asked for: log-probabilities [end - begin, V] of every next
    token at positions begin .. end - 1. The memory is this object's own and lives as long."""

class Engine:
    def __init__(
        self,
        *,
        workspace: str,
        isa: str,
        threads: int,
        num_blocks: int,
        block_size: int,
        kv_bits: int | Sequence[int],
        activation_bits: int,
        max_num_seqs: int,
        max_batch_tokens: int,
        context_length: int,
        prefix_caching: bool,
        weight_memory: str = "auto",
    ) -> None: ...
    def submit(
        self,
        id: int,
        prompt: list[int],
        *,
        temperature: float,
        top_k: int | None,
        top_p: float,
        seed: int,
        max_tokens: int | None,
        min_tokens: int,
        stop_token_ids: list[int],
        logit_bias: dict[int, float],
        logprobs: int | None,
    ) -> None:
        """Queue a completion. ValueError: prompt empty or too long, id in use, token id or
        parameter out of range. Thread-safe, as are `score` and `abort`."""
    def score(
        self,
        id: int,
        tokens: list[int],
        *,
        top: int = 0,
        rows: tuple[int, int] | None = None,
        first: int = 0,
    ) -> None:
        """Queue tokens (at least 2) to be scored.

        `top`: how many of the best next tokens are told at each position, 0 to V. `rows`: positions
        begin .. end - 1 of the len(tokens) - 1 predictions whose whole rows are told. `first`:
        predictions before it are not told, and what they read may come from the prefix cache; with
        0 a score neither reads nor fills that. ValueError as for `submit`."""
    def abort(self, id: int) -> None:
        """End a request; unknown ids are ignored. The next `step` reports `abort`."""
    def has_work(self) -> bool: ...
    def step(self) -> list[StepOutput]:
        """One step, the GIL released; returns at once, empty, when there is no work."""
    def logits(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        """Logits [len(tokens), V] of a sequence on its own, through the same scheduler and cache.
        For evaluation in process; RuntimeError while other requests run."""
    def stats(self) -> dict[str, int | float | list[int] | dict[str, int | float]]:
        """The fields of `lmrun.engine.messages.Stats`, `rss_bytes` and `busy_seconds` apart."""
    def residency(self) -> dict[str, int | None]:
        """`weights_bytes` and `kv_bytes` that have pages in memory, and `weights_huge_bytes` that
        are in huge pages; None where the system does not say. Some milliseconds; thread-safe."""
    def check(self) -> None:
        """RuntimeError where the accounting of blocks and sequences contradicts itself. For tests,
        between steps."""
    def why_mapped(self) -> str:
        """Why the weights stay mapped where `weight_memory` is auto; empty where they do not."""
    def wait_for_weights(self) -> None:
        """Wait until no more weights will move into huge pages, the GIL released; one caller."""
    def effective_config(self) -> EffectiveSettings:
        """The fields of `EngineSettings` in force, `isa` resolved."""
    @property
    def vocab_size(self) -> int: ...

def supported_isas() -> list[str]:
    """ISAs compiled in and supported by this CPU, best first."""

def check_isa(name: str) -> None:
    """`RuntimeError` where `backend.isa` of that name cannot be had here, with what is missing."""

def available_cpus() -> int:
    """Cores this process may use: affinity mask and cgroup quota, whichever is less."""

def gives_huge_pages() -> bool:
    """Whether memory that asks for pages of 2 MiB gets them; tries it."""

def measure_read_bandwidth(threads: int, bytes: int) -> float:
    """Bytes per second at which that many threads together read that much memory, each its own
    part, in 2 MiB pages where the kernel grants them; the best of several passes."""

def measure_flops(threads: int) -> float:
    """fp32 operations per second of fused multiply-adds on registers, widest vectors; 0.3 s."""

def measure_products(name: str, threads: int) -> float:
    """Operations per second of 512-bit products on registers, `int8` (VNNI) or `bf16`; 0 where the
    CPU has none; tiles do not count; 0.3 s."""

def measure_gemm(
    *,
    isa: str,
    format: str,
    threads: int,
    rows: int,
    n: int,
    k: int,
    group_size: int,
    activation_bits: int = 32,
    bytes: int,
    seconds: float,
) -> dict[str, float]:
    """`bytes_per_s`, `flops_per_s` of y = x·wᵀ over matrices [n, k] that together take about that
    many bytes; `format` is `u4`, `u8`, `i8` (x quantized to int8 in the same pass), `F16`, `BF16`
    or `F32`; `activation_bits` are those of x where it meets `u4` or `u8`. The best pass within
    the time."""

def measure_attention(
    *,
    isa: str,
    threads: int,
    kv_bits: int,
    rows: int,
    context: int,
    num_layers: int,
    num_kv_heads: int,
    group: int,
    head_dim: int,
    activation_bits: int = 32,
    seconds: float,
) -> dict[str, float]:
    """`bytes_per_s` of K and V, `flops_per_s` of the last `rows` positions of a context;
    `activation_bits` count where K and V are of 8 or 4 bits."""

def add_moments(
    left: npt.NDArray[np.int16],
    right: npt.NDArray[np.int16],
    sums: npt.NDArray[np.float32],
    *,
    upper: bool,
) -> None:
    """`sums` [m, n] += leftᵀ right of tokens by features, whose elements are bfloat16 (their bits),
    added up in float32 on this thread without the GIL. Rows are contiguous, and may lie apart.
    `upper`: of a tile on the diagonal only what lies on and above it counts. The order of the sums
    depends on the tokens alone."""

def solve_gptq_block(
    *,
    feedback: npt.NDArray[np.float32],
    cost: npt.NDArray[np.float32],
    group: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32],
    zero: npt.NDArray[np.float32],
    top: float,
    weight: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.float32],
    change: npt.NDArray[np.float32],
    codes: npt.NDArray[np.uint8],
    error: npt.NDArray[np.float32],
    products: npt.NDArray[np.float32],
    squares: npt.NDArray[np.float32],
) -> None:
    """A block of GPTQ's solve, on this thread without the GIL: `csrc/kernels/gptq.h` says what is
    read (up to `weight`) and what is written. Arrays are contiguous, but for `feedback`."""

def build_info() -> dict[str, str]:
    """`version`, `compiler`, `isas` compiled in, and `build`: SHA-256 of the sources, the compiler
    and its flags, equal wherever the same was built."""
