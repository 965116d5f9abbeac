"""What quantizing a layer cannot be faster than: its operations at the rate of matrix products."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

SIZE = 2048
BATCH = 4096
TRIES = 5
LIGHT_SAMPLES = 8
LIGHT_ITERATIONS = 50


@dataclass(frozen=True)
class Ceilings:
    """Multiplications and additions a second of torch's matrix products, all cores, best of some
    tries."""

    float32_per_s: float
    bfloat16_per_s: float


def measure() -> Ceilings:
    """[BATCH, SIZE] times [SIZE, SIZE], in both types."""
    import torch  # noqa: PLC0415 - a second of start-up

    rates = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(BATCH, SIZE).to(dtype), torch.randn(SIZE, SIZE).to(dtype)
        best = float("inf")
        for _ in range(TRIES):
            start = time.perf_counter()
            torch.mm(a, b)
            best = min(best, time.perf_counter() - start)
        rates.append(2 * BATCH * SIZE * SIZE / best)
    return Ceilings(rates[0], rates[1])


def least_seconds(
    method: str, linears: Sequence[tuple[int, int]], tokens: int, ceilings: Ceilings
) -> float | None:
    """Seconds a layer of the products that a method cannot do without; None where there are none.

    ``linears``: [out, in] of each. All count one forward pass over the text, and second moments of
    the four inputs (half of a symmetric matrix) at the faster rate. gptq and awq_gptq add the
    rounding itself, N·K² a linear, in float32; autoround counts, in place of moments, the forward
    and backward passes of its iterations. Searches over scales are cheaper with second moments than
    without, and are not counted.
    """
    if method == "rtn":
        return None
    rate = max(ceilings.bfloat16_per_s, ceilings.float32_per_s)
    forward = 2 * tokens * sum(n * k for n, k in linears)
    if method == "autoround":
        seen = min(tokens, LIGHT_SAMPLES * 512)
        steps = 3 * 2 * seen * LIGHT_ITERATIONS * sum(n * k for n, k in linears)
        return (forward + steps) / rate
    inputs = [k for _, k in (linears[0], linears[3], linears[4], linears[6])]
    found = (forward + tokens * sum(k * k for k in inputs)) / rate
    if "gptq" in method:
        found += sum(n * k * k for n, k in linears) / ceilings.float32_per_s
    return found
