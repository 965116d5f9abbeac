"""`lmrun bench engine`: the engine on a tiny model, beside a program with llama-bench's flags."""

import json
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmrun import _engine
from lmrun.bench import alone, engine, engine_report
from lmrun.bench.engine import Entry, Peaks
from lmrun.bench.engine_cases import Case, Job, Measured, Outcome, Settings, jobs
from lmrun.bench.engine_child import run_child
from lmrun.bench.engine_entries import Against
from lmrun.bench.engine_peers import LlamaBench
from lmrun.bench.engine_report import Work
from lmrun.bench.engine_text import report_text
from lmrun.bench.peers import stepping
from lmrun.bench.program_isa import program_isa
from lmrun.cli import main
from lmrun.cli.schema import document
from lmrun.errors import ExitStatus, StageError

LLAMA_BENCH = """\
#!{python}
import json, sys
words = sys.argv[1:]
flags = dict(zip(words[::2], words[1::2]))
with open({log!r}, "a") as log:
    log.write(" ".join(words) + "\\n")
numbers = lambda text: [int(word) for word in text.split(",")]
rows = [
    {{"build_commit": "abc", "build_number": 7, "model_size": 600, "n_prompt": p, "n_gen": 0,
      "n_depth": 0, "avg_ts": 100.0}}
    for p in numbers(flags["-p"]) if p
] + [
    {{"build_commit": "abc", "build_number": 7, "model_size": 600, "n_prompt": 0, "n_gen": n,
      "n_depth": d, "avg_ts": 50.0 / (1 + d)}}
    for n in numbers(flags["-n"]) if n for d in numbers(flags.get("-d", "0"))
]
print(json.dumps(rows))
"""
"""Prints what llama-bench documents for -o json."""
BATCHED = """\
#!{python}
import json, sys
words = sys.argv[1:]
value = lambda name: [int(word) for word in words[words.index(name) + 1].split(",")]
for pp in value("-npp"):
    for pl in value("-npl"):
        print(json.dumps({{"pp": pp, "tg": value("-ntg")[0], "pl": pl, "speed_tg": 10.0 * pl}}))
"""
QUICK = ["--shape", "random-llama", "--batches", "1,2", "--contexts", "0,70", "--prefill", "20"]


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real bench may run beside these tests."""
    monkeypatch.setattr(alone, "lock_file", lambda: tmp_path / "lock" / alone.LOCK_NAME)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A `llama-bench`, with `llama-batched-bench` beside it; what it was asked for is in `log`."""
    for name, text in (("llama-bench", LLAMA_BENCH), ("llama-batched-bench", BATCHED)):
        file = tmp_path / name
        file.write_text(text.format(python=sys.executable, log=str(tmp_path / "log")))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    return tmp_path / "llama-bench"


class Steps:
    """An engine that gives a token to each of at most two requests a step, after its prompt."""

    vocab_size = 100
    step_tokens = 16

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.unread: dict[int, int] = {}
        self.prompts: dict[int, list[int]] = {}

    def submit(self, request_id: int, prompt: list[int], max_tokens: int) -> None:
        self.left[request_id] = max_tokens
        self.unread[request_id] = len(prompt)
        self.prompts[request_id] = prompt

    def step(self) -> dict[int, int]:
        got = {}
        for one in list(self.left)[:2]:
            self.unread[one] -= self.step_tokens
            if self.unread[one] > 0:
                continue
            got[one] = 1
            self.left[one] -= 1
            if not self.left[one]:
                del self.left[one]
        return got

    def abort(self, request_id: int) -> None:
        self.left.pop(request_id, None)

    def has_work(self) -> bool:
        return bool(self.left)


def test_decode_counts_the_steps_in_which_all_sequences_run() -> None:
    found = stepping.decode(Steps(), batch=2, context=40, new_tokens=5)
    assert (found["batch"], found["context"], found["tokens"]) == (2, 40, 10)
    assert found["tokens_per_s"] == found["tokens"] / found["seconds"]


def test_a_longer_context_goes_on_where_a_shorter_one_of_the_same_stream_ended() -> None:
    assert stepping.prompt(100, 7, 20)[:12] == stepping.prompt(100, 7, 12)
    assert stepping.prompt(100, 7, 20) != stepping.prompt(100, 8, 20)


def test_requests_of_a_trace_come_at_their_time_and_get_all_their_tokens() -> None:
    steps = Steps()
    found = stepping.trace(steps, [(0.0, 20, 3), (0.0, 5, 4), (0.05, 10, 2)])
    assert (found["requests"], found["prompt_tokens"], found["tokens"]) == (3, 35, 9)
    assert found["seconds"] >= 0.05
    assert found["largest_step"] == 2
    assert [len(prompt) for prompt in steps.prompts.values()] == [20, 5, 10]


def test_our_engine_and_a_peer_take_turns_and_the_document_fits_its_schema(
    program: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.csv").write_text("0,20,3\n0.01,30,4\n")
    words = ["bench", "engine", *QUICK, "--kv-bits", "4", "--threads", "1", "--rounds", "1"]
    words += ["--trace", str(tmp_path / "trace.csv")]
    words += ["--against", f"llama-bench:{program}", "--gguf", str(tmp_path / "tiny.gguf")]
    assert main.run(words) is ExitStatus.OK
    captured = capfd.readouterr()
    *shown, last = captured.out.splitlines()
    found = json.loads(last)
    jsonschema.Draft202012Validator(document("bench-engine")).validate(found)
    ours, theirs, quantized = found["engines"]
    assert (ours["name"], ours["is_ours"], ours["kv_bits"]) == ("lmrun kv4", True, 4)
    assert (theirs["name"], theirs["version"]) == ("llama-bench tiny", "abc (7)")
    assert (theirs["isa"], theirs["weight_bytes"]) == ("not told", 600)
    assert quantized["name"] == "llama-bench tiny kv4"
    cases = [(one["kind"], one["batch"], one["context"]) for one in ours["figures"]]
    assert cases == [
        ("start", 1, 0),
        ("decode", 1, 0),
        ("decode", 1, 70),
        ("decode", 2, 0),
        ("prefill", 1, 20),
        ("trace", 1, 0),
    ]
    assert [(one["kind"], one["batch"], one["context"]) for one in theirs["figures"]] == cases[:-1]
    assert [one["context"] for one in quantized["figures"]] == [0, 70]
    assert all(len(one["tokens_per_s"]) == 1 for one in ours["figures"][1:])
    assert ours["figures"][0]["detail"]["ready_s"] > 0
    assert ours["figures"][-1]["detail"]["output_tokens"] == 7
    assert found["lacking"] == [
        "llama-bench tiny, trace: llama-bench takes no trace",
    ]
    ratio = next(one for one in found["ratios"] if (one["batch"], one["context"]) == (1, 70))
    assert ratio["ratio"] == pytest.approx(ours["figures"][2]["best"] / (50 / 71))
    asked = (tmp_path / "log").read_text().splitlines()
    gguf = f"-m {tmp_path / 'tiny.gguf'} -t 1 -r 1 -o json"
    one_round = [
        f"{gguf} -p 0 -n 16",
        f"{gguf} -p 0 -n 32 -d 0,70",
        f"{gguf} -p 0 -n 32 -d 0,70 -ctk q4_0 -ctv q4_0 -fa 1",
        f"{gguf} -p 20 -n 0",
    ]
    # a token of each setting for its version comes first
    assert asked[2:] == one_round
    assert shown[0].startswith("engine    random-llama: 1 threads of ")
    assert any(line.startswith("decode, batch 2, context 0") for line in shown)


class _Told:
    """An engine whose figures are known; its second job fails."""

    def __init__(self, name: str, rate: float, *, fails: bool = False) -> None:
        self.name, self._rate, self._fails = name, rate, fails
        self.asked: list[str] = []

    def about(self) -> Mapping[str, str]:
        return {"version": "1", "isa": "x"}

    def lacks(self, job: Job) -> str | None:
        return None

    def run(self, job: Job) -> Outcome:
        self.asked.append(job.name)
        if self._fails and job.name == "one":
            raise StageError("bench: it broke.")
        if job.name != "prefill":
            return Outcome((), 1 << 20, 0.0)
        self._rate += 1
        return Outcome((Measured(Case("prefill", 1, 128), self._rate),), 1 << 20, 0.0)


def _entry(told: _Told, *, is_ours: bool) -> Entry:
    return Entry(told, is_ours, "4 bits", 16, "8 bits")


def test_an_engine_that_fails_a_job_is_asked_for_the_others_and_reported() -> None:
    settings = Settings(batches=(1,), contexts=(0,), lengths=(128,), rounds=2)
    told = _Told("it", 1.0, fails=True)
    results = engine.run(settings, [_entry(told, is_ours=True)], lambda _: Peaks(1.0))
    assert told.asked == ["start", "one", "prefill", "start", "prefill"]
    assert results.failed == ["it, one: bench: it broke."]


def test_ratios_are_of_best_rounds_and_of_medians() -> None:
    settings = Settings(batches=(), contexts=(), lengths=(128,), rounds=3)
    told = [_Told("ours", 100), _Told("slow", 10), _Told("fast", 46)]
    entries = [_entry(one, is_ours=one.name == "ours") for one in told]
    results = engine.run(settings, entries, lambda _: Peaks(1.0))
    (ratio,) = engine_report.ratios(results)
    assert ratio["best_peer"] == "fast"
    assert ratio["ratio"] == pytest.approx(103 / 49)
    assert ratio["median_ratio"] == pytest.approx(102 / 48)


def test_work_counts_the_bytes_of_a_step_and_the_products_of_a_prompt() -> None:
    work = Work(10, 1000, 2.0, 50, 30, 4)
    decode = _figure(Case("decode", 4, 100), 8.0)
    # 4 sequences, 2 steps a second, 102 positions on average
    assert work.speed(decode, 4) == (2 * (1000 + 4 * 102 * 2.0), 8 * (80 + 102 * 4))
    prefill = _figure(Case("prefill", 1, 1024), 2048.0)
    assert work.speed(prefill, 4) == (4000.0, 2 * (50 * 1024 + 30 + 4 * 1024 * 1025 / 2))
    assert work.speed(_figure(Case("trace"), 5.0), 4) is None


def _figure(case: Case, rate: float) -> engine.Figure:
    return engine.Figure(case, (Measured(case, rate),), (0.0,), 1)


def test_jobs_leave_out_what_is_empty_and_what_a_context_does_not_hold() -> None:
    settings = Settings(contexts=(0, 512, 2048), lengths=(128, 2048)).within(2048)
    assert (settings.contexts, settings.lengths) == ((0, 512), (128,))
    assert [(job.name, job.batches, job.contexts) for job in jobs(settings)] == [
        ("start", (), ()),
        ("one", (1,), (0, 512)),
        ("many", (4, 8, 16), (0,)),
        ("prefill", (), ()),
    ]
    full = Settings(batches=(8,), contexts=(0, 512), lengths=(), is_full=True)
    assert [job.contexts for job in jobs(full)] == [(), (0, 512)]


def test_a_program_that_fails_says_why_and_its_memory_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        run_child(["/bin/sh", "-c", "echo no model >&2; exit 3"])
    assert str(caught.value) == "bench: sh ended with status 3:\n    no model"
    held = bytearray(300 << 20)
    ended = run_child([sys.executable, "-c", "print(len(b'x' * (64 << 20)))"])
    assert ended.stdout == f"{64 << 20}\n"
    assert 64 << 20 < ended.peak_rss_bytes < 200 << 20
    assert len(held) == 300 << 20


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump on the path")
def test_the_isa_of_a_program_is_what_its_instructions_are(tmp_path: Path) -> None:
    # the engine itself has kernels of each
    assert program_isa(Path(_engine.__file__)).startswith("AVX2, AVX-512, VNNI")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert program_isa(tmp_path / "script") == "not told"


def test_a_batch_that_was_not_printed_is_told(program: Path, tmp_path: Path) -> None:
    bench = LlamaBench("it", program, tmp_path / "tiny.gguf", 1)
    job = Job("many", "decode", batches=(4, 8), contexts=(0,), new_tokens=2)
    assert [(one.case.batch, one.tokens_per_s) for one in bench.run(job).measured] == [
        (4, 40.0),
        (8, 80.0),
    ]
    bench.batched.write_text(f"#!{sys.executable}\n")
    with pytest.raises(StageError, match="printed nothing of 4 sequences of 8 tokens"):
        bench.run(job)


def test_what_llama_bench_does_not_document_is_refused(program: Path, tmp_path: Path) -> None:
    program.write_text(f"#!{sys.executable}\nprint('tokens: many')\n")
    bench = LlamaBench("it", program, tmp_path / "tiny.gguf", 1)
    with pytest.raises(StageError) as caught:
        bench.about()
    expected = "bench: llama-bench: expected the JSON of llama-bench, got 'tokens: many\\n'."
    assert str(caught.value) == expected


def test_tables_say_what_a_peer_lacks_and_who_else_was_busy() -> None:
    settings = Settings(batches=(1,), contexts=(0,), lengths=(128,), rounds=1)
    entries = [_entry(_Told("ours", 10), is_ours=True), _entry(_Told("peer", 5), is_ours=False)]
    results = engine.run(settings, entries, lambda _: Peaks(40e9, 100e9, 0.0, 900e9))
    results.lacking.append("peer, trace: llama-bench takes no trace")
    found: dict[str, Any] = engine_report.report(results, {})
    found["cpu"] = "a CPU"
    found["engines"][1]["figures"][0]["others_busy"] = [0.5, 1.5]
    jsonschema.Draft202012Validator(document("bench-engine")).validate(found)
    assert report_text(found).splitlines() == [
        "engine    llama-1b: 1 threads of a CPU, 1 round, 32 tokens decoded each; best round, in"
        " brackets the median",
        "ceilings  read 40.0 GB/s in 2 MiB pages, fp32 100 GFLOP/s, int8 900 GFLOP/s",
        "  ours  1; 4 bits; activations 8 bits; KV 16 bits; ISA x",
        "  peer  1; 4 bits; activations 8 bits; KV 16 bits; ISA x",
        "",
        "tokens/s            ours       peer  ours / best peer",
        "prefill 128  11.0 (11.0)  6.0 (6.0)       1.83 × peer",
        "",
        "note: other processes used 0.7 cores on average while this ran, at most 1.5: figures are"
        " too low, ratios less so.",
        "note: peer, trace: llama-bench takes no trace",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--shape", "gpt"],
            "--shape: gpt: expected one of demo, llama-1b, internlm2_5-1.8b, random-llama.",
        ),
        (["--quick", "--full"], "--quick: cannot stand beside --full."),
        (["kv.bits=4"], "bench engine: takes no settings, got kv.bits=4."),
        (["--batches", "0"], "--batches: expected numbers from 1 to 1048576, got '0'."),
        (["--requests", "3"], "--requests: only --trace has a use for it."),
        (["--peers", "here"], "--peers: only --against has a use for it."),
        (
            ["--against", "vllm"],
            "--against: vllm: expected llama.cpp, openvino or llama-bench:PATH.",
        ),
        (
            ["--against", "llama-bench:none"],
            "--against: llama-bench:none: expected a program, got no file.",
        ),
        (
            ["--against", "openvino"],
            "--against=openvino: expected --peers DIR beside it, the folder that lmrun bench engine"
            " --install-peers DIR fills.",
        ),
        (
            ["--against", "openvino", "--peers", "none"],
            "--peers=none: no peers there. lmrun bench engine --install-peers none puts them there"
            " (some minutes, a C++ compiler).",
        ),
        (["--install-peers", "d", "--quick"], "--quick: cannot stand beside --install-peers."),
        (["--samples", "3"], "--samples: only another bench takes it."),
    ],
)
def test_what_the_bench_does_not_take_is_refused_in_words(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["bench", "engine", *words]) is ExitStatus.USAGE
    assert capfd.readouterr().err.splitlines()[-1] == f"lmrun: {message}"


def test_a_peer_runs_each_setting_once_whatever_ours_are(program: Path, tmp_path: Path) -> None:
    against = Against((f"llama-bench:{program}",), None, (tmp_path / "tiny.gguf",), is_quick=False)
    entries = against.entries("demo", tmp_path, threads=2, kv_bits=[16, 4, 4, 32])
    names = ["llama-bench tiny", "llama-bench tiny kv4"]
    assert [entry.engine.name for entry in entries] == names
    assert [entry.only for entry in entries] == [None, {"one"}]
