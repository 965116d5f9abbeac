"""The Python readers of headers over what the fuzzers of the C++ ones kept, and over JSON that
looks like a header: a refusal is a `PlanError`, and nothing else comes out."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrun.errors import PlanError
from lmrun.models.safetensors_header import check_header, read_header
from lmrun.models.workspace import RANK_FILE, read_workspace

CORPUS = Path(__file__).parents[2] / "cpp" / "fuzz" / "corpus"
HEADER_ALIGNMENT = 4096
FILE_BYTES = 2 << 20

NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, 10**4299, -(10**4299)]),
    st.floats(),
)
VALUES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.sampled_from(["F32", "U8", "1", ""]), st.lists(NUMBERS)
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(["F32", "U8", "BOOL"]), VALUES),
        "shape": st.one_of(st.lists(NUMBERS, max_size=3), VALUES),
        "data_offsets": st.one_of(st.lists(NUMBERS, min_size=2, max_size=2), VALUES),
        "more": VALUES,
    },
)
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), ENTRIES | VALUES)


def _write(file: Path, header: bytes) -> None:
    """A file whose header is padded as the fuzzers pad it, with zeros behind it."""
    begin = -(-(8 + len(header)) // HEADER_ALIGNMENT) * HEADER_ALIGNMENT
    file.write_bytes((begin - 8).to_bytes(8, "little") + header.ljust(begin - 8))
    with file.open("r+b") as opened:
        opened.truncate(-(-(begin + 1) // FILE_BYTES) * FILE_BYTES)


def test_the_kept_headers_are_read_or_refused(tmp_path: Path) -> None:
    taken = []
    for kept in sorted((CORPUS / "safetensors").iterdir()):
        header = kept.read_bytes()
        file = tmp_path / "file"
        _write(file, header) if header.startswith(b"{") else file.write_bytes(header)
        with contextlib.suppress(PlanError):
            read_header(file)
            taken.append(kept.name)
    assert {"five_dtypes", "metadata"} <= set(taken)


def test_the_kept_workspaces_are_read_or_refused(tmp_path: Path) -> None:
    taken = []
    for kept in sorted((CORPUS / "workspace").iterdir()):
        model, _, header = kept.read_bytes().partition(b"\0")
        (tmp_path / "model.json").write_bytes(model)
        _write(tmp_path / RANK_FILE, header)
        with contextlib.suppress(PlanError):
            read_workspace(tmp_path)
            taken.append(kept.name)
    assert {"float32", "u4", "u4_orders", "u8", "i8", "two_layers"} <= set(taken)


@settings(max_examples=300, deadline=None)
@given(header=HEADERS, size=st.integers(0, 300))
def test_json_that_looks_like_a_header_is_read_or_refused(header: Any, size: int) -> None:
    with contextlib.suppress(PlanError):
        for entry in check_header(Path("file"), json.dumps(header).encode(), 0, size).values():
            assert 0 <= entry.offset <= entry.offset + entry.num_bytes <= size


@settings(max_examples=100, deadline=None)
@given(text=st.binary(max_size=100))
def test_any_bytes_are_no_header(text: bytes) -> None:
    with pytest.raises(PlanError):
        check_header(Path("file"), text, 0, len(text) + 1)
