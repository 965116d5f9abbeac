"""What an evaluation found: `Quality`, and its JSON form (`report.json` of the evaluate stage).

Each mean stands beside its standard error, ``*_standard_error``: over the windows of a text, over
the items of a file; None where there are fewer than two. A figure that was not asked for, or that
needs a baseline that is not there, is None, and ``notes`` says so. Nothing but ``seconds`` differs
between two runs of the same engine build on the same instruction set.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from lmrun.errors import ArtifactError
from lmrun.json_schema import (
    COUNT,
    DIGEST,
    TEXT,
    TEXTS,
    Schema,
    document,
    mapping,
    or_null,
    record,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TaskScore:
    """One task file."""

    kind: str
    """`choices`: the choice of highest likelihood; `exact`: the answer generated greedily."""
    format: str
    """`choices`, `exact` (our own), `arc`, `piqa`, `gsm8k`: see `lmrun/evals/README.md`."""
    prompt: str
    """How a prompt is made of an item's fields."""
    digest: str
    """SHA-256 of the file (of PIQA's file and its labels)."""
    items: int
    accuracy: float
    """Share of items answered right: lm-eval's `acc`, or exact matches."""
    accuracy_standard_error: float | None
    accuracy_norm: float | None = None
    """lm-eval's `acc_norm`: the choice of highest likelihood a character; None for `exact`."""
    accuracy_norm_standard_error: float | None = None
    accuracy_bytes: float | None = None
    """lm-eval's `acc_bytes`: the same a byte of UTF-8, equal where the choices are ASCII."""
    accuracy_bytes_standard_error: float | None = None


@dataclass(frozen=True)
class ToolScore:
    """A tools file: the next assistant turn is right when all its calls are."""

    format: str
    """`lmrun` or `berkeley`."""
    digest: str
    """SHA-256 of the file (and of the Berkeley file of accepted answers)."""
    items: int
    accuracy: float
    accuracy_standard_error: float | None
    call_items: int
    """Items whose turn is one or more calls; the others are answered in words."""
    call_accuracy: float | None
    word_accuracy: float | None


@dataclass(frozen=True)
class Protocol:
    """What perplexity, KL and top-1 were counted on."""

    text: str
    """`builtin:stories`, or the name of the file."""
    text_digest: str
    """SHA-256 of the text file."""
    window: int
    """Tokens of a window, BOS included."""
    tokens: int
    """Predicted tokens."""
    bos_token_id: int | None
    """None: the tokenizer has no BOS, and a window's first token is not predicted."""
    kl_tokens: int
    """Predicted tokens, from the first on, whose whole rows were compared with the baseline."""


@dataclass(frozen=True)
class Baseline:
    """The model that the figures are compared with."""

    perplexity: float
    """On the same tokens."""
    engine: dict[str, str | int]
    """As `Quality.engine`."""


@dataclass(frozen=True)
class Quality:
    """All figures of one evaluation."""

    perplexity: float | None = None
    perplexity_standard_error: float | None = None
    mean_logprob: float | None = None
    """Natural logarithm; perplexity is exp of its negative."""
    mean_logprob_standard_error: float | None = None
    ppl_ratio: float | None = None
    """Perplexity over that of the baseline, on the same tokens."""
    ppl_ratio_standard_error: float | None = None
    """Paired: of the difference of log-probabilities, token by token."""
    kl: float | None = None
    """Mean of KL(baseline ‖ model) over positions, nats."""
    kl_standard_error: float | None = None
    kl_p99: float | None = None
    """99th percentile over positions."""
    kl_max: float | None = None
    top1: float | None = None
    """Share of positions where model and baseline rank the same token first."""
    top1_standard_error: float | None = None
    tasks: dict[str, TaskScore] = field(default_factory=dict)
    tools: ToolScore | None = None
    protocol: Protocol | None = None
    baseline: Baseline | None = None
    engine: dict[str, str | int] = field(default_factory=dict)
    """Settings of the engine that moved the figures: `isa`, `kv_bits`, `activation_bits`."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each part: `text`, `tasks.NAME`, `tools`."""


_NUMBER: Schema = {"type": "number"}
_POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
_NOT_NEGATIVE: Schema = {"type": "number", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_ERROR = or_null(_NOT_NEGATIVE)
_ENGINE = mapping({"type": ["string", "integer"]})
_TASK = record(
    kind={"enum": ["choices", "exact"]},
    format=TEXT,
    prompt=TEXT,
    digest=DIGEST,
    items=COUNT,
    accuracy=_SHARE,
    accuracy_standard_error=_ERROR,
    accuracy_norm=or_null(_SHARE),
    accuracy_norm_standard_error=_ERROR,
    accuracy_bytes=or_null(_SHARE),
    accuracy_bytes_standard_error=_ERROR,
)
_TOOLS = record(
    format={"enum": ["lmrun", "berkeley"]},
    digest=DIGEST,
    items=COUNT,
    accuracy=_SHARE,
    accuracy_standard_error=_ERROR,
    call_items=COUNT,
    call_accuracy=or_null(_SHARE),
    word_accuracy=or_null(_SHARE),
)
_PROTOCOL = record(
    text=TEXT,
    text_digest=DIGEST,
    window=COUNT,
    tokens=COUNT,
    bos_token_id=or_null(COUNT),
    kl_tokens=COUNT,
)

SCHEMA: Schema = document(
    "the quality of a deployment, as `lmrun eval` measures it",
    SCHEMA_VERSION,
    perplexity=or_null(_POSITIVE),
    perplexity_standard_error=_ERROR,
    mean_logprob=or_null(_NUMBER),
    mean_logprob_standard_error=_ERROR,
    ppl_ratio=or_null(_POSITIVE),
    ppl_ratio_standard_error=_ERROR,
    kl=or_null(_NUMBER),
    kl_standard_error=_ERROR,
    kl_p99=or_null(_NUMBER),
    kl_max=or_null(_NUMBER),
    top1=or_null(_SHARE),
    top1_standard_error=_ERROR,
    tasks=mapping(_TASK),
    tools=or_null(_TOOLS),
    protocol=or_null(_PROTOCOL),
    baseline=or_null(record(perplexity=_POSITIVE, engine=_ENGINE)),
    engine=_ENGINE,
    notes=TEXTS,
    seconds=mapping(_NOT_NEGATIVE),
)


def to_document(quality: Quality) -> dict[str, Any]:
    """The JSON form, which fits `SCHEMA`."""
    fields: dict[str, Any] = msgspec.to_builtins(quality)
    return {"schema_version": SCHEMA_VERSION, **fields}


def from_document(found: Any, where: str) -> Quality:  # noqa: ANN401 - not yet checked
    """The figures of a JSON document; `ArtifactError`, which names ``where``, for another one."""
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{where}: expected a quality report with schema_version {SCHEMA_VERSION}, got another"
            " document. Evaluate again."
        )
    fields = {key: value for key, value in found.items() if key != "schema_version"}
    try:
        return msgspec.convert(fields, Quality)
    except msgspec.ValidationError as error:
        raise ArtifactError(
            f"{where}: expected a quality report, got one where {error}. Evaluate again."
        ) from error
