"""The roofline: how long a step takes at least, from bytes and operations over rates.

Of a described device bytes and operations overlap, and the longer of the two sums counts. Of this
machine the rates are those that the engine's own kernels reached (`lmrun doctor --measure`), each
with its operations inside, so their times add up.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lmrun.artifacts.measurements import Ceilings
from lmrun.models.spec import ModelSpec
from lmrun.plan.costs import Budget, Device, WeightRow
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.speed import Phase, Rule, SpeedEstimate, Speeds, Term
from lmrun.plan.weights import INT8_INPUTS

NOT_MEASURED = "not measured: lmrun doctor --measure"
MATRIX_KINDS = ("attention", "mlp", "head")
MULTIPLY_ADD = 2
"""FLOP of a weight and token."""
DIGITS = {32: 3, 16: 2, 8: 1}
"""Bits of activations → digits of 8 bits that the engine gives an input of codes in groups."""
MOST_ACTIVATION_BITS = max(DIGITS)


@dataclass(frozen=True)
class Workload:
    """What a step works on, of one rank."""

    spec: ModelSpec
    budget: Budget
    engine: EngineSettings

    def matrices(self, *, with_head: bool = True) -> Iterator[tuple[str, int, int]]:
        """Scheme, parameters and bytes of the matrices that a step reads, one a scheme.

        A tied embedding is the head; of another one only rows are read.
        """
        sums: dict[str, tuple[int, int]] = {}
        for row in self.budget.weights:
            if self._is_read(row, with_head=with_head):
                parameters, size = sums.get(row.scheme, (0, 0))
                sums[row.scheme] = (parameters + row.parameters, size + row.num_bytes)
        for scheme, (parameters, size) in sums.items():
            yield scheme, parameters, size

    def _is_read(self, row: WeightRow, *, with_head: bool) -> bool:
        is_head = row.kind == ("embedding" if self.spec.tie_word_embeddings else "head")
        return with_head if is_head else row.kind in MATRIX_KINDS

    def ceiling(self, scheme: str) -> str:
        """Name of the measured rates of a scheme."""
        name = scheme.split(maxsplit=1)[0]
        bits = self.engine.activation_bits
        return name if bits == MOST_ACTIVATION_BITS or name[0] != "u" else f"{name}a{bits}"

    def attention_flops(self, pairs: float) -> float:
        """q·k and p·v of that many pairs of a query and a cached token, all layers."""
        heads = self.spec.num_heads // self.budget.tp
        return 2 * MULTIPLY_ADD * heads * self.spec.head_dim * self.spec.num_layers * pairs

    def kv_bytes(self, tokens: float) -> float:
        """Bytes of that many cached tokens."""
        return self.budget.kv_bytes_per_token * tokens

    def chunks(self, prompt: int) -> int:
        """Steps of a prefill."""
        return -(-prompt // self.engine.max_batch_tokens)


Decode = Callable[[float, float], SpeedEstimate]
"""Sequences and the tokens each holds → the estimate of a step."""


def speeds(work: Workload, device: Device, ceilings: Ceilings | None) -> Speeds:
    """Decode of one and of max_num_seqs sequences at context 0 and at its longest; prefill of one
    step and of the longest prompt."""
    if device.is_this_machine:
        problem = unusable(work, ceilings)
        if problem is not None or ceilings is None:
            return Speeds(problem or NOT_MEASURED, ())
        measured = Measured(work, ceilings)
        source = f"measured here {ceilings.measured_at}, {ceilings.threads} threads"
        return Speeds(source, tuple(_estimates(work, measured.decode, measured.prefill)))
    if device.bandwidth is None or device.peak_flops is None:
        return Speeds("device.bandwidth_gb_s and device.peak_gflop_s are not given", ())
    described = Described(work, device, device.bandwidth, device.peak_flops)
    source = device.source or "as described"
    return Speeds(source, tuple(_estimates(work, described.decode, described.prefill)))


def unusable(work: Workload, ceilings: Ceilings | None) -> str | None:
    """Why the ceilings say nothing about this workload; None where they do."""
    if ceilings is None:
        return NOT_MEASURED
    if work.engine.isa not in ("auto", ceilings.isa):
        return f"measured with isa {ceilings.isa}, not with {work.engine.isa}"
    for scheme, _, _ in work.matrices():
        if work.ceiling(scheme) not in ceilings.schemes:
            return f"not measured for weights {scheme}"
    return None


def _estimates(
    work: Workload, decode: Decode, prefill: Callable[[int], SpeedEstimate]
) -> Iterator[SpeedEstimate]:
    last = work.engine.context_length - 1
    held = work.budget.sequences[-1].sequences
    for sequences in sorted({1, work.engine.max_num_seqs}):
        yield decode(sequences, 0)
        yield decode(sequences, last if sequences <= held else work.budget.num_tokens // sequences)
    longest = work.engine.context_length
    for prompt in sorted({min(work.engine.max_batch_tokens, longest), longest}):
        yield prefill(prompt)


@dataclass(frozen=True)
class Measured:
    """Estimates from the ceilings of this machine."""

    work: Workload
    ceilings: Ceilings

    @property
    def _share(self) -> float:
        """Rates are about in proportion to the threads."""
        return min(1.0, self.work.engine.threads / self.ceilings.threads)

    def decode(self, sequences: float, context: float) -> SpeedEstimate:
        """A step that yields a token for each of the sequences."""
        rates, work = self.ceilings, self.work
        in_cache = sum(size for _, _, size in work.matrices()) <= rates.cache_bytes
        terms = []
        for scheme, parameters, size in work.matrices():
            of = rates.schemes[work.ceiling(scheme)]
            speed = of.cached_decode_bytes_per_s if in_cache else of.decode_bytes_per_s
            read = Term(f"weights {scheme}", size, "B", speed * self._share)
            flops = MULTIPLY_ADD * parameters * sequences
            compute = Term(f"weights {scheme}", flops, "FLOP", of.prefill_flops_per_s * self._share)
            terms.append(max(read, compute, key=lambda term: term.seconds))
        for row in work.budget.kv:
            name = "KV" if len(work.budget.kv) == 1 else f"KV {row.bits} bits"
            speed = rates.attention_bytes_per_s[str(row.bits)] * self._share
            terms.append(Term(name, row.token_bytes * sequences * context, "B", speed))
        terms += self._overheads(1)
        if rates.serving_token_s > 0 and work.engine.threads >= rates.threads:
            terms.append(Term("serving", sequences, "tokens", 1 / rates.serving_token_s))
        return _estimate("decode", sequences, context, terms, "sum", sequences)

    def prefill(self, prompt: int) -> SpeedEstimate:
        """The prompt tokens of one sequence, from an empty cache."""
        return self.prefill_from(0, prompt)

    def prefill_from(self, context: float, prompt: int) -> SpeedEstimate:
        """Prompt tokens behind those that are cached already."""
        rates, work = self.ceilings, self.work
        terms = []
        for scheme, parameters, _ in work.matrices(with_head=False):
            speed = rates.schemes[work.ceiling(scheme)].prefill_flops_per_s * self._share
            flops = MULTIPLY_ADD * parameters * prompt
            terms.append(Term(f"weights {scheme}", flops, "FLOP", speed))
        pairs = work.attention_flops(_pairs(context, prompt))
        terms.append(Term("attention", pairs, "FLOP", rates.attention_flops_per_s * self._share))
        terms += self._overheads(work.chunks(prompt))
        return _estimate("prefill", 1, context + prompt, terms, "sum", prompt)

    def _overheads(self, steps: int) -> Iterator[Term]:
        rates, layers = self.ceilings, self.work.spec.num_layers
        if rates.layer_overhead_s > 0:
            yield Term("layers", steps * layers, "layers", 1 / rates.layer_overhead_s)
        if rates.step_overhead_s > 0:
            yield Term("steps", steps, "steps", 1 / rates.step_overhead_s)


@dataclass(frozen=True)
class Described:
    """Estimates from the numbers of a described device, communication between ranks not counted."""

    work: Workload
    device: Device
    bandwidth: float
    peak_flops: float

    def decode(self, sequences: float, context: float) -> SpeedEstimate:
        """A step that yields a token for each of the sequences."""
        terms = [
            Term(f"weights {scheme}", size, "B", self.bandwidth)
            for scheme, _, size in self.work.matrices()
        ]
        tokens = sequences * context
        terms.append(Term("KV", self.work.kv_bytes(tokens), "B", self.bandwidth))
        terms += self._flops(self.work.matrices(), sequences, tokens)
        return _estimate("decode", sequences, context, terms, "max", sequences)

    def prefill(self, prompt: int) -> SpeedEstimate:
        """The prompt tokens of one sequence, from an empty cache."""
        steps = self.work.chunks(prompt)
        terms = [
            Term(f"weights {scheme}", size * steps, "B", self.bandwidth)
            for scheme, _, size in self.work.matrices(with_head=False)
        ]
        matrices = self.work.matrices(with_head=False)
        terms += self._flops(matrices, prompt, _pairs(0, prompt))
        return _estimate("prefill", 1, prompt, terms, "max", prompt)

    def _flops(
        self, matrices: Iterable[tuple[str, int, int]], tokens: float, pairs: float
    ) -> Iterator[Term]:
        for scheme, parameters, _ in matrices:
            flops = MULTIPLY_ADD * parameters * tokens
            yield Term(f"weights {scheme}", flops, "FLOP", self._peak(scheme))
        yield Term("attention", self.work.attention_flops(pairs), "FLOP", self.peak_flops)

    def _peak(self, scheme: str) -> float:
        """Codes of 8 bits meet inputs of 8 bits in integer units, where there are some; so do the
        codes of a CPU, once for each digit of 8 bits of an input."""
        peak = self.device.peak_int8_ops
        if peak is None:
            return self.peak_flops
        if INT8_INPUTS in scheme.split():
            return peak
        if scheme[0] == "u" and self.device.kind == "cpu":
            return max(self.peak_flops, peak / DIGITS[self.work.engine.activation_bits])
        return self.peak_flops


def _pairs(context: float, prompt: int) -> float:
    """Pairs of a query and a token before it or itself."""
    return prompt * context + prompt * (prompt + 1) / 2


def _estimate(
    phase: Phase, sequences: float, context: float, terms: list[Term], rule: Rule, tokens: float
) -> SpeedEstimate:
    kept = tuple(term for term in terms if term.amount)
    if rule == "sum":
        seconds = sum(term.seconds for term in kept)
    else:
        reads = sum(term.seconds for term in kept if term.unit == "B")
        seconds = max(reads, sum(term.seconds for term in kept if term.unit == "FLOP"))
    return SpeedEstimate(
        phase=phase,
        num_seqs=round(sequences),
        context_length=round(context),
        terms=kept,
        rule=rule,
        tokens=round(tokens),
        seconds=seconds,
        tokens_per_s=tokens / seconds,
    )
