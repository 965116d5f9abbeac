"""Recorded arrivals."""

from pathlib import Path

import pytest

from lmrun.bench.trace import Arrival, read_trace
from lmrun.errors import ConfigError

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
2023-11-16 18:16:51.2224670,91,16
"""


def written(folder: Path, text: str) -> str:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_arrivals_count_from_the_first(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, AZURE), 100)
    assert [arrival.at for arrival in trace.arrivals] == pytest.approx(
        [0.0, 4.314579, 4.541877, 64.541877], abs=1e-6
    )
    assert [(a.prompt_tokens, a.output_tokens) for a in trace.arrivals] == [
        (374, 44),
        (396, 109),
        (879, 55),
        (91, 16),
    ]


def test_only_the_first_requests_are_read(tmp_path: Path) -> None:
    """A line behind them may be anything."""
    trace = read_trace(written(tmp_path, AZURE + "broken\n"), 4)
    assert len(trace.arrivals) == 4
    assert len(read_trace(written(tmp_path, AZURE), 2).arrivals) == 2


def test_a_head_is_not_needed_and_times_may_be_seconds(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "5.5,10,2\n\n7,20,3\r\n7,1,1\n"), 9)
    assert trace.arrivals == (Arrival(0.0, 10, 2), Arrival(1.5, 20, 3), Arrival(1.5, 1, 1))


def test_a_request_of_nothing_becomes_one_of_a_token(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, "0,0,0\n"), 1).arrivals == (Arrival(0.0, 1, 1),)


def test_a_faster_replay_divides_the_times_alone(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "0,10,2\n8,20,3\n"), 9)
    assert trace.faster(4).arrivals == (Arrival(0.0, 10, 2), Arrival(2.0, 20, 3))
    assert trace.offered_per_s == pytest.approx(0.125)
    assert trace.faster(4).offered_per_s == pytest.approx(0.5)


def test_arrivals_at_one_time_offer_no_rate(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, "1,10,2\n1,20,3\n"), 9).offered_per_s == 0.0


def test_lengths_are_cut_to_the_context_the_completion_keeping_what_it_can(
    tmp_path: Path,
) -> None:
    trace = read_trace(written(tmp_path, "0,10,5\n1,200,20\n2,20,200\n3,500,500\n"), 9)
    fitted = trace.within(100)
    assert [(a.prompt_tokens, a.output_tokens) for a in fitted.arrivals] == [
        (10, 5),
        (80, 20),
        (20, 80),
        (50, 50),
    ]
    assert fitted.clipped == 3
    assert trace.within(None) is trace


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "",
            "expected an arrival time, prompt tokens and generated tokens in a line, got no line.",
        ),
        ("time,prompt,generated\n", " in a line, got no line."),
        ("0,1\n", "line 1: expected an arrival time, prompt tokens and generated tokens, got 0,1."),
        ("0,1,2,3\n", "line 1: expected an arrival time, "),
        (
            "0,1,2\n1,x,2\n",
            "line 2: expected an arrival time, prompt tokens and generated tokens, ",
        ),
        ("0,1,2\n1,-1,2\n", "got 1,-1,2."),
        ("nan,1,2\n", "got nan,1,2."),
        ("yesterday,1,2\n", "got yesterday,1,2."),
        (
            "5,1,2\n4,1,2\n",
            "line 2: expected a time not before that of the line above. Sort the file.",
        ),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_trace(path, 10)
    assert str(caught.value).startswith(f"bench.trace={path}: ")
    assert problem in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    with pytest.raises(ConfigError) as caught:
        read_trace(str(path), 1)
    assert str(caught.value) == (
        f"bench.trace={path}: expected a CSV file, got No such file or directory."
    )
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="expected text, got other bytes"):
        read_trace(str(path), 1)


def test_the_published_trace_is_read(test_data: Path) -> None:
    file = test_data / "traces" / "AzureLLMInferenceTrace_conv.csv"
    trace = read_trace(str(file), 10**6)
    assert len(trace.arrivals) == 19366
    assert 3000 < trace.arrivals[-1].at < 4000
