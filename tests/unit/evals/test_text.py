"""The table of figures, word for word."""

from dataclasses import replace

from lmrun.evals.report import Baseline, Protocol, Quality, TaskScore, ToolScore
from lmrun.evals.text import table

QUALITY = Quality(
    perplexity=5.1726928,
    perplexity_standard_error=0.0449282,
    mean_logprob=-1.6433,
    mean_logprob_standard_error=0.00868,
    ppl_ratio=1.0986644,
    ppl_ratio_standard_error=0.0019629,
    kl=0.0853385,
    kl_standard_error=0.00208295,
    kl_p99=0.6362148,
    kl_max=2.6928671,
    top1=0.865479,
    top1_standard_error=0.005332,
    tasks={
        "piqa": TaskScore("choices", "piqa", "p", "0" * 64, 500, 0.528, 0.0223, 0.5, 0.0224),
        "gsm8k": TaskScore("exact", "gsm8k", "p", "0" * 64, 1, 0.0, None),
    },
    tools=ToolScore("lmrun", "0" * 64, 100, 0.8, 0.0402, 80, 0.75, 1.0),
    protocol=Protocol("builtin:stories", "0" * 64, 256, 65535, 1, 4096),
    baseline=Baseline(4.7081645, {"kv_bits": 16}),
    engine={"isa": "avx512", "kv_bits": 4},
    notes=("something was left out",),
    seconds={"text": 1.0},
)


def test_every_figure_has_a_line() -> None:
    assert table(QUALITY).splitlines() == [
        "perplexity             5.1727 ± 0.045     65,535 tokens of builtin:stories, windows of"
        " 256, BOS first",
        "ratio to the baseline  1.0987 ± 0.002     baseline 4.7082",
        "KL divergence          0.085338 ± 0.0021  nats, 4,096 tokens; 99% below 0.636, largest"
        " 2.69",
        "top-1 agreement        86.5% ± 0.5%",
        "task gsm8k             0.0%               1 item (gsm8k)",
        "task piqa              52.8% ± 2.2%       500 items (piqa), normalized 50.0% ± 2.2%",
        "tool calls             80.0% ± 4.0%       100 items (lmrun): calls 75.0%, words 100.0%",
        "note: something was left out",
    ]


def test_what_was_not_evaluated_has_none() -> None:
    nothing = Quality()
    assert table(nothing) == "nothing was evaluated"
    protocol = replace(QUALITY.protocol, bos_token_id=None, kl_tokens=0)  # type: ignore[type-var]
    alone = Quality(perplexity=5.0, protocol=protocol)
    assert table(alone) == (
        "perplexity  5.0000  65,535 tokens of builtin:stories, windows of 256, no BOS"
    )


def test_times_do_not_show() -> None:
    assert table(replace(QUALITY, seconds={"text": 99.0})) == table(QUALITY)
