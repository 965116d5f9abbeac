"""`lmrun bench quality`: what each way of quantizing costs, beside what other tools reach.

Every row is a deployment, built and evaluated through the store: what is there is not done again.
The figures of other tools are data (`peers/figures.json`, with their source); they are shown where
model, text and number of tokens are those they were measured on.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmrun import log
from lmrun.bench.quality_rows import FLOAT, Row, Settings, measure, ways
from lmrun.json_schema import (
    BOOLEAN,
    COUNT,
    TEXT,
    TEXTS,
    Schema,
    document,
    or_null,
    record,
    records,
)

SCHEMA_VERSION = 1
FIGURES = Path(__file__).with_name("peers") / "figures.json"
ALL_METHODS = "best"
"""Held against the best figure of any peer, whatever its method."""
SAME_MODEL = 2e-3
"""The float perplexities may differ by this share."""

_log = log.get(__name__)


@dataclass(frozen=True)
class Figure:
    """What a tool of others reached."""

    model: str
    group_size: int
    method: str
    tool: str
    perplexity: float
    kl: float | None


@dataclass(frozen=True)
class Peers:
    """All of them."""

    source: str
    protocol: Mapping[str, Any]
    models: Mapping[str, Mapping[str, float]]
    figures: tuple[Figure, ...]

    @classmethod
    def read(cls, path: Path = FIGURES) -> "Peers":
        """The figures that ship."""
        found = json.loads(path.read_text(encoding="utf-8"))
        figures = tuple(Figure(**one) for one in found["figures"])
        return cls(found["source"], found["protocol"], found["models"], figures)

    def model_of(self, row: Row) -> str | None:
        """The model of the figures that a float row is, by shape, text and perplexity."""
        protocol = self.protocol
        if (row.text_sha256, row.tokens) != (protocol["text_sha256"], protocol["tokens"]):
            return None
        for name, model in self.models.items():
            shape = (model["hidden_size"], model["num_layers"], model["vocab_size"])
            known = model["float_perplexity"]
            if row.shape == shape and abs((row.perplexity or 0) / known - 1) < SAME_MODEL:
                return name
        return None

    def of(self, model: str, row: Row) -> list[Figure]:
        """Those that a row is held against: those that beat round-to-nearest, best first."""
        same = [
            one for one in self.figures if one.model == model and one.group_size == row.group_size
        ]
        plain = min((one.perplexity for one in same if one.method == "rtn"), default=float("inf"))
        methods = {one.method for one in same} - {"rtn"}
        wanted = methods if row.method == ALL_METHODS else {row.method}
        found = [one for one in same if one.method in wanted and one.perplexity < plain]
        return sorted(found, key=lambda one: one.perplexity)


@dataclass(frozen=True)
class Entry:
    """A row, and the best of the peers it is held against."""

    row: Row
    peer: Figure | None = None
    ratio: float | None = None
    """Our perplexity over the peer's; at most 1 where ours is as good or better."""


@dataclass(frozen=True)
class Report:
    """The table."""

    settings: Settings
    source: str
    entries: tuple[Entry, ...]

    @property
    def worse(self) -> tuple[Entry, ...]:
        """Rows in which the best peer of the same method is better."""
        compared = (one for one in self.entries if one.row.method != ALL_METHODS)
        return tuple(one for one in compared if one.ratio is not None and one.ratio > 1)

    @property
    def unbeaten(self) -> tuple[Entry, ...]:
        """Rows of `best` in which some peer is better."""
        compared = (one for one in self.entries if one.row.method == ALL_METHODS)
        return tuple(one for one in compared if one.ratio is not None and one.ratio >= 1)

    @property
    def has_failed(self) -> bool:
        """Whether a row that is not refused has no figures."""
        return any(one.row.problem and not one.row.is_refused for one in self.entries)

    def to_json(self) -> dict[str, Any]:
        """The document, which fits `SCHEMA`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "bench": "quality",
            "settings": _plain(asdict(self.settings)),
            "peers_source": self.source,
            "rows": [
                {
                    **_plain(asdict(one.row)),
                    "peer": None if one.peer is None else asdict(one.peer),
                    "ratio": one.ratio,
                }
                for one in self.entries
            ],
            "worse_than_a_peer": [_name(one) for one in self.worse],
            "best_is_beaten": [_name(one) for one in self.unbeaten],
        }


def run(settings: Settings) -> Report:
    """Measure every row; minutes to hours where nothing is in the store yet."""
    rows = []
    for way in ways(settings):
        row = measure(way, settings)
        rows.append(row)
        figures = row.problem or f"perplexity {row.perplexity:.4g}"
        _log.info("bench: %s %s: %s", row.model, way.title, figures)
    return Report(settings, (peers := Peers.read()).source, tuple(compared(rows, peers)))


def compared(rows: Sequence[Row], peers: Peers) -> Iterator[Entry]:
    """Each row beside the best of its peers; models are told by their float rows."""
    known = {row.model: peers.model_of(row) for row in rows if row.method == FLOAT}
    for row in rows:
        model = known.get(row.model)
        found = peers.of(model, row) if model is not None and row.perplexity is not None else []
        if not found or row.perplexity is None:
            yield Entry(row)
        else:
            yield Entry(row, found[0], row.perplexity / found[0].perplexity)


def _name(entry: Entry) -> str:
    group = "" if not entry.row.group_size else f" g{entry.row.group_size}"
    return f"{entry.row.model} {entry.row.method}{group}"


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()
    }


_NUMBER = or_null({"type": "number"})
_PEER = record(model=TEXT, group_size=COUNT, method=TEXT, tool=TEXT, perplexity=_NUMBER, kl=_NUMBER)
SCHEMA: Schema = document(
    "lmrun bench quality",
    SCHEMA_VERSION,
    bench={"const": "quality"},
    settings={"type": "object"},
    peers_source=TEXT,
    rows=records(
        model=TEXT,
        method=TEXT,
        group_size=or_null(COUNT),
        perplexity=_NUMBER,
        perplexity_standard_error=_NUMBER,
        ppl_ratio=_NUMBER,
        kl=_NUMBER,
        top1=_NUMBER,
        weight_bytes=or_null(COUNT),
        quantize_s=_NUMBER,
        text_sha256=or_null(TEXT),
        tokens=or_null(COUNT),
        shape=or_null({"type": "array", "items": COUNT}),
        problem=or_null(TEXT),
        is_refused=BOOLEAN,
        peer=or_null(_PEER),
        ratio=_NUMBER,
    ),
    worse_than_a_peer=TEXTS,
    best_is_beaten=TEXTS,
)
