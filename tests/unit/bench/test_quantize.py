"""`lmrun bench quantize`: equal inputs for all, one routine for errors, honest about failures."""

import json
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lmrun.artifacts.store import Store
from lmrun.bench import alone, quantize, quantize_error, quantize_inputs
from lmrun.bench.peers.drive import Around, Clock
from lmrun.bench.quantize import Result, Settings, speedups
from lmrun.bench.quantize_ceilings import Ceilings, least_seconds
from lmrun.bench.quantize_runs import Peer
from lmrun.bench.quantize_text import report_text
from lmrun.cli import main
from lmrun.cli.schema import document
from lmrun.config import compose
from lmrun.errors import ExitStatus, UsageError
from lmrun.models.tokenizer import Tokenizer
from lmrun.plan.planner import make_plan
from lmrun.stages import calibration_data
from lmrun.stages.runner import build

SMALL = ["--shape", "random-llama", "--samples", "40", "--seq-len", "64"]


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real bench may run beside these tests."""
    monkeypatch.setattr(alone, "lock_file", lambda: tmp_path / "lock" / alone.LOCK_NAME)


@pytest.fixture
def no_tool(tmp_path: Path) -> Path:
    """A virtual environment in which no tool is installed."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    return tmp_path / "venv"


def test_all_tools_get_the_same_ids(tmp_path: Path) -> None:
    inputs = quantize_inputs.write(tmp_path, "random-llama", 1, samples=3, seq_len=20, seed=5)
    ids = np.load(inputs.ids)
    assert ids.shape == (3, 20)
    assert (ids[:, 0] == 1).all(), "BOS"
    assert len(np.unique(ids)) > 30
    text = calibration_data.read_text(inputs.text, 60)
    ours = calibration_data.take_sequences(Tokenizer.from_folder(inputs.model), text, 3, 20, seed=0)
    np.testing.assert_array_equal(ours, ids)
    assert inputs.held_out.shape == (quantize_inputs.HELD_OUT, 20)
    seen = {row.tobytes() for row in ids}
    assert not any(row.tobytes() in seen for row in inputs.held_out)


def test_the_error_is_that_of_outputs_on_what_was_held_out(tmp_path: Path) -> None:
    inputs = quantize_inputs.write(tmp_path, "random-llama", 2, samples=1, seq_len=16, seed=5)
    assert quantize_error.output_errors(inputs.model, inputs.model, inputs.held_out) == [0, 0]
    store = Store(tmp_path / "home")
    errors = []
    for bits in (8, 4):
        words = [f"model.path={inputs.model}", "quant.method=rtn", f"quant.bits={bits}"]
        plan = make_plan(compose([*words, "backend.context_length=16"]), store)
        folder = build(plan, store, goal="quantize")
        found = quantize_error.output_errors(inputs.model, folder, inputs.held_out)
        assert found[0] < found[1], "errors add up over the layers"
        errors.append(found[-1])
    assert 0 < errors[0] < errors[1] / 100


def test_errors_of_a_hand_made_change_are_exact(tmp_path: Path) -> None:
    inputs = quantize_inputs.write(tmp_path, "random-llama", 1, samples=1, seq_len=16, seed=5)
    other = tmp_path / "other"
    other.mkdir()
    for file in inputs.model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tensors = load_file_bits(other / "model.safetensors")
    for name, bits in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            bits[...] = 0
    save_bits(other / "model.safetensors", tensors)
    # the layer adds nothing any more: all that the float one adds is missing
    errors = quantize_error.output_errors(inputs.model, other, inputs.held_out)
    assert errors == [pytest.approx(1)]


def load_file_bits(path: Path) -> dict[str, np.ndarray]:
    """bfloat16 tensors as their bits."""
    header_bytes = int.from_bytes(path.read_bytes()[:8], "little")
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + header_bytes])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(raw[begin:end], np.uint16).reshape(entry["shape"]).copy()
    return found


def save_bits(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The reverse, in float32, which readers take as well."""
    values = {
        name: (bits.astype(np.uint32) << 16).view(np.float32) for name, bits in tensors.items()
    }
    save_file(values, path)
    assert set(load_file(path)) == set(tensors)


def test_a_clock_counts_what_stands_between_begin_and_end() -> None:
    clock = Clock()
    clock.begin()
    time.sleep(0.05)
    clock.end()
    assert 0.05 <= clock.wall_s < 0.5
    assert clock.cpu_s < 0.05, "sleeping takes no CPU"


def test_a_method_in_the_place_of_a_tools_own_is_counted_and_still_bound() -> None:
    clock = Clock()

    class Tool:
        def __init__(self) -> None:
            self.seen = 0

        def step(self, amount: int) -> int:
            self.seen += amount
            time.sleep(0.01)
            return self.seen

    Tool.step = Around(clock, Tool.step)  # type: ignore[method-assign,assignment]
    tool = Tool()
    assert [tool.step(2), tool.step(3)] == [2, 5]
    assert clock.wall_s >= 0.02


def _result(tool: str, seconds: float, error: float) -> Result:
    times = (seconds, 2 * seconds, 3 * seconds)
    return Result("gptq", tool, "1", times, times, times, 1 << 20, error, (error,), ())


def test_we_are_held_against_the_fastest_and_against_the_most_exact_peer() -> None:
    results = [
        _result("lmrun", 2, 0.10),
        _result("llm-compressor", 9, 0.20),
        _result("gptqmodel", 6, 0.40),
    ]
    (found,) = speedups(results)
    assert found["fastest_peer"] == "gptqmodel"
    assert found["speedup"] == pytest.approx(3)
    assert found["best_peer"] == "llm-compressor"
    assert found["error_ratio"] == pytest.approx(0.5)
    assert list(speedups(results[:1])) == []


def test_least_seconds_count_products_at_the_measured_rate() -> None:
    square = [(10, 10)] * 7
    ceilings = Ceilings(float32_per_s=1e3, bfloat16_per_s=1e4)
    forward, moments, rounding = 2 * 5 * 700, 5 * 4 * 100, 7 * 1000
    assert least_seconds("rtn", square, 5, ceilings) is None
    assert least_seconds("awq", square, 5, ceilings) == pytest.approx((forward + moments) / 1e4)
    assert least_seconds("gptq", square, 5, ceilings) == pytest.approx(
        (forward + moments) / 1e4 + rounding / 1e3
    )


@pytest.mark.parametrize("text", ["llm-compressor", "autoawq=/x", "=/x"])
def test_a_peer_is_a_known_tool_and_a_folder(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Peer.of(text)
    assert str(caught.value) == (
        f"--peer={text}: expected NAME=VENV with one of llm-compressor, gptqmodel, auto-round."
    )


def test_a_peer_without_a_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no virtual environment there"):
        Peer.of(f"gptqmodel={tmp_path}")


def test_a_tool_that_fails_is_reported_and_the_others_go_on(
    no_tool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "quantize", *SMALL, "--methods", "rtn,gptq", "--group-size", "64"]
    words += ["--peers", f"gptqmodel={no_tool}", "--keep", str(tmp_path / "kept")]
    assert main.run(words) is ExitStatus.STAGE_FAILED
    *shown, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    jsonschema.Draft202012Validator(document("bench-quantize")).validate(found)
    assert [(one["method"], one["tool"]) for one in found["results"]] == [
        ("rtn", "lmrun"),
        ("gptq", "lmrun"),
    ]
    rounding, learned = (one["output_error"] for one in found["results"])
    assert 0 < learned < rounding, "GPTQ loses less than rounding to nearest"
    assert all(one["seconds_a_layer"][0] > 0 for one in found["results"])
    assert found["least_seconds_a_layer"]["rtn"] is None
    (failure,) = found["failed"]
    assert failure.startswith("gptqmodel gptq: bench: python drive.py ended with status 1:")
    assert "No module named" in failure
    assert any(line.startswith("failed: gptqmodel gptq: ") for line in shown)
    assert (tmp_path / "kept" / "inputs" / "ids.npy").is_file()


def test_the_table_has_ceilings_and_spreads_of_rounds() -> None:
    report = quantize.Report(Settings(methods=("gptq",), rounds=3), Ceilings(1e9, 2e9))
    report.results = [_result("lmrun", 2, 0.1), _result("gptqmodel", 6, 0.1)]
    lines = report_text(report).splitlines()
    assert lines[0] == (
        "random-llama-1b, 1 layer, 128 x 512 random token ids, 4 bits, groups of 128, with zero"
        " points; 3 rounds in turn"
    )
    assert "4.0 (2.0-6.0)" in next(line for line in lines if line.startswith("gptq    lmrun"))
    assert any("1 GFLOP/s in float32, 2 in bfloat16" in line for line in lines)
    assert lines[-1] == (
        "gptq: 3.0 times as fast as gptqmodel (3.0 by CPU time), 1.00 times the error of gptqmodel"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "awq,hqq"], "--methods: hqq: expected one of rtn, awq, gptq, awq_gptq,"),
        (["--layers", "0"], "--layers: expected a number from 1 to 1048576, got '0'."),
        (
            ["--shape", "llama"],
            "--shape: llama: expected one of random-llama, random-llama-1b, random-llama-1b-8k,"
            " random-internlm2_5-1.8b.",
        ),
        (["kv.bits=8"], "bench quantize: takes no settings, got kv.bits=8."),
        (["--text", "x"], "--text: only another bench takes it."),
        (["--runs", "3"], "--runs: only another bench takes it."),
    ],
)
def test_words_that_mean_nothing_here_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["bench", "quantize", *words]) is ExitStatus.USAGE
    assert message in capsys.readouterr().err


def test_flags_of_quantize_are_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["bench", "--peers", "x=y"]) is ExitStatus.USAGE
    assert "--peers: only lmrun bench engine or quantize takes it." in capsys.readouterr().err
    assert main.run(["bench", "startup", "--samples", "3"]) is ExitStatus.USAGE
    assert "--samples: only lmrun bench quantize or quality takes it." in capsys.readouterr().err
