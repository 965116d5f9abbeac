"""The report of a bench for people, word for word."""

from dataclasses import replace

from lmrun.artifacts.measurements import MachineIdentity
from lmrun.bench.report import (
    Asked,
    BenchReport,
    Bound,
    Distribution,
    Figures,
    Load,
    Memory,
    Rates,
    Spread,
    Target,
)
from lmrun.bench.serving_text import report_text


def of(value: float) -> Distribution:
    return Distribution(
        count=9, mean=value, p50=value, p90=1.1 * value, p99=1.5 * value, max=2 * value
    )


def around(value: float) -> Spread:
    return Spread(min=0.9 * value, median=value, max=1.2 * value)


LOAD = Load(
    concurrency=1,
    rounds=3,
    requests=24,
    errors=0,
    error=None,
    seconds=2.5,
    prompt_tokens=128,
    output_tokens=32,
    ttft_ms=of(34.5),
    itl_ms=of(1.5),
    latency_ms=of(82.7),
    ttft_p50_ms=around(34),
    itl_mean_ms=around(1.5),
    output_tokens_per_s=around(386),
    total_tokens_per_s=around(1932),
    requests_per_s=around(12.1),
    tokens_per_event=1.0,
    cached_tokens=0,
    client_cpu_share=0.03,
    bounds=[
        Bound(
            figure="ttft_ms",
            value=34.5,
            ceiling=20,
            share=20 / 34.5,
            expected=22,
            why="weights BF16: 2.62 GFLOP / 131 GFLOP/s",
        ),
        Bound(
            figure="itl_ms",
            value=1.5,
            ceiling=0.4,
            share=0.4 / 1.5,
            expected=0.6,
            why="weights BF16: 23.6 MB / 59 GB/s",
        ),
        Bound(
            figure="output_tokens_per_s",
            value=386,
            ceiling=990,
            share=386 / 990,
            expected=800,
            why="32 / (20 ms of a prompt + 31 x 400 us of a step / 1)",
        ),
    ],
)
REPORT = BenchReport(
    schema_version=1,
    bench="serving",
    complete=True,
    problem=None,
    started="2026-11-21T17:00:00+00:00",
    seconds=12.0,
    lmrun="0.1.0",
    machine=MachineIdentity(cpu="AMD EPYC", vendor="v", isa="avx512", cores=2, memory_bytes=1),
    target=Target(
        kind="deployment",
        url=None,
        model="demo",
        endpoint="/v1/completions",
        prompts="token ids",
        ignores_eos=True,
        recipe="w4a16_kv4_server",
        engine={"threads": 2, "isa": "avx512", "kv_bits": 4, "max_num_seqs": 32},
        engine_build="build",
        seconds_to_ready=0.3,
    ),
    asked=Asked(
        prompt_tokens=128,
        output_tokens=32,
        concurrency=[1],
        requests=8,
        rounds=3,
        seed=0,
        trace=None,
    ),
    loads=[LOAD],
    trace=None,
    memory=Memory(
        peak_rss_bytes=98 << 20,
        weights_bytes=24 << 20,
        kv_bytes=40 << 20,
        kv_blocks=1024,
        peak_kv_blocks=12,
        preemptions=0,
    ),
    rates=Rates(
        source="lmrun doctor --measure",
        measured_at="2026-11-20T09:00:00+00:00",
        threads=2,
        read_bytes_per_s=31.5e9,
        flops_per_s=221e9,
    ),
    figures=Figures(ttft_ms=34.5, itl_ms=1.5, tokens_per_s=386, requests_per_s=12.1),
)

TEXT = """\
bench     demo: prompts of 128 tokens, completions of 32, 3 rounds
target    recipe w4a16_kv4_server, 2 threads, isa avx512, KV 4 bits, at most 32 sequences a step
machine   AMD EPYC, 2 cores

latency, ms
                  TTFT                          ITL                            request
  open  requests   p50   p90   p99     at best  mean   p50   p99      at best   p50  p99
     1        24  34.5  38.0  51.8  20.0 (58%)  1.50  1.50  2.25  0.400 (27%)  82.7  124

over the rounds
        output tokens/s              total                 TTFT p50    ITL mean    client
  open  median  min  max    at best  tokens/s  requests/s   min   max   min   max  CPU  errors
     1     386  347  463  990 (39%)     1,932        12.1  30.6  40.8  1.35  1.80   3%       0

memory    engine process 98 MiB at its peak, 24 MiB of weights
          12 of 1024 KV blocks held at once, 40 MiB touched
ceilings  lmrun doctor --measure, 2026-11-20T09:00:00+00:00: 31.5 GB/s, 221 GFLOP/s
  1 open, TTFT                20.0 = weights BF16: 2.62 GFLOP / 131 GFLOP/s
  1 open, ITL                0.400 = weights BF16: 23.6 MB / 59 GB/s
  1 open, output tokens/s      990 = 32 / (20 ms of a prompt + 31 x 400 us of a step / 1)
"""


def test_a_number_just_below_a_thousand_is_rounded_to_one() -> None:
    load = replace(LOAD, ttft_ms=of(999.7))
    assert "     1        24  1,000  1,100  1,500  " in report_text(replace(REPORT, loads=[load]))


def test_a_report_is_shown_with_its_spread_and_its_ceilings() -> None:
    assert report_text(REPORT) == TEXT.rstrip("\n")


def test_what_must_be_known_to_read_the_figures_stands_below_them() -> None:
    """A word on each thing that makes figures mean less than they seem to."""
    load = replace(
        LOAD,
        concurrency=4,
        errors=2,
        error="status 503: engine: died.",
        tokens_per_event=1.25,
        cached_tokens=640,
        client_cpu_share=0.62,
        bounds=[replace(LOAD.bounds[0], ceiling=40, share=40 / 34.5)],
    )
    report = replace(
        REPORT,
        loads=[load],
        target=replace(REPORT.target, ignores_eos=False),
        complete=False,
        problem="the engine process was ended by SIGKILL.",
    )
    lines = report_text(report).splitlines()
    assert lines[-7:] == [
        "note      more than 100% of a ceiling: it was measured in a slower moment than the load."
        " lmrun doctor --measure on a quiet machine keeps better ones",
        "note      4 open: 2 requests failed and count in nothing else: status 503: engine: died.",
        "note      4 open: measuring took 62% of a core: the figures are of both together",
        "note      4 open: 1.25 tokens came in an event: the percentiles of ITL are of events, its"
        " mean of tokens",
        "note      4 open: 640 prompt tokens came from a prefix cache",
        "note      some completions had another length than was asked for",
        "note      it ended early: the engine process was ended by SIGKILL.",
    ]


def test_a_server_behind_a_url_is_named_and_has_no_ceilings() -> None:
    target = replace(
        REPORT.target, kind="url", url="http://host:8000", engine=None, prompts="text", recipe=None
    )
    load = replace(LOAD, bounds=[])
    report = replace(REPORT, target=target, loads=[load], machine=None, memory=None, rates=None)
    lines = report_text(report).splitlines()
    assert lines[1] == "target    http://host:8000/v1/completions, prompts of text"
    assert "machine" not in report_text(report)
    assert lines[-1].endswith("3%       0")


def test_a_level_without_a_good_answer_shows_dashes() -> None:
    load = replace(
        LOAD,
        requests=0,
        errors=3,
        error="no",
        ttft_ms=None,
        itl_ms=None,
        latency_ms=None,
        ttft_p50_ms=None,
        itl_mean_ms=None,
        output_tokens_per_s=None,
        total_tokens_per_s=None,
        requests_per_s=None,
        tokens_per_event=None,
        bounds=[],
    )
    rows = [line.split() for line in report_text(replace(REPORT, loads=[load])).splitlines()]
    assert ["1", "0", *["-"] * 10] in rows
    assert ["1", *["-"] * 10, "3%", "3"] in rows
