"""What a sweep says while it runs, and why a point failed."""

from pathlib import Path

import pytest

from lmrun.sweep import children, narration
from lmrun.sweep.narration import Watcher, duration, figures_text
from lmrun.sweep.rows import Memory, Point, Row, Status, Sweep, read_row, write_row, write_sweep

POINT = Point(0, ("kv.bits=8",), {"kv.bits": 8}, "0" * 12)


def test_a_line_has_the_figures_that_there_are() -> None:
    row = Row(POINT, Status.ok)
    assert figures_text(row) == "done"
    memory = Memory(10 << 20, 20 << 20, 300 << 20)
    quality = {"perplexity": 6.5, "ppl_ratio": 1.0123, "kl": 0.00412}
    bench = {"figures": {"ttft_ms": 20.44, "tokens_per_s": 181.7}}
    assert figures_text(Row(POINT, Status.ok, memory=memory)) == "memory 0.293 GiB"
    assert figures_text(Row(POINT, Status.ok, quality={"perplexity": 6.5})) == "perplexity 6.500"
    assert figures_text(Row(POINT, Status.ok, memory=memory, quality=quality, bench=bench)) == (
        "memory 0.293 GiB, perplexity ratio 1.0123, KL 0.0041 nat, TTFT 20.4 ms, tokens/s 181.7"
    )


def test_rows_that_wait_to_be_timed_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lmrun")
    row = Row(POINT, seconds=3.0)
    sweep = Sweep("0" * 12, tmp_path / "sweep", ("-m",), "2026-11-21T17:00:00Z", (row,))
    write_sweep(sweep)
    reads: list[Point] = []

    def counted(folder: Path, point: Point) -> Row | None:
        reads.append(point)
        return read_row(folder, point)

    monkeypatch.setattr(narration, "read_row", counted)
    watcher = Watcher(sweep, [row])
    watcher.look()
    assert reads == []
    write_row(sweep, row)
    for _ in range(3):
        watcher.look()
    assert len(reads) == 1
    write_row(sweep, Row(POINT, Status.ok))
    watcher.look()
    assert caplog.messages == ["kv.bits=8: built in 3.0 s", "1/1 kv.bits=8: done"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3.4, "3 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_what_is_left_is_said_roughly(seconds: float, said: str) -> None:
    assert duration(seconds) == said


ENDS = {
    "INFO lmrun.stages: convert\nx.safetensors: expected 8 bytes, got 4.\n  Copy it again.\n": (
        "x.safetensors: expected 8 bytes, got 4. Copy it again."
    ),
    'INFO a: b\nTraceback (most recent call last):\n  File "x", line 1, in f\n    g()\n'
    "ValueError: no such thing\n  more of it\n\nInvoked with: 1\n": "ValueError: no such thing",
    "INFO a: b\n": "",
    '{"level": "info", "message": "x"}\n{"level": "error", "message": "a:\\n  b"}\n': "a: b",
    '{"level": "info", "message": "x"}\n': "",
    "": "",
}


@pytest.mark.parametrize("text", ENDS)
def test_the_reason_of_an_end_is_what_a_process_said_last(text: str) -> None:
    assert children.last_words(text) == ENDS[text]


def test_how_a_process_ended_is_said_in_words() -> None:
    assert children.describe(5) == "ended with status 5"
    assert children.describe(-9) == "was ended by SIGKILL"
    assert children.describe(-64) in ("was ended by SIGRTMAX", "was ended by signal 64")


def test_a_command_leaves_all_it_says_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    words = ["sh", "-c", "echo out; echo err >&2; kill -9 $$"]
    assert children.run_logged(words, log, tmp_path) == -9
    assert log.read_text() == "before\nout\nerr\n"
