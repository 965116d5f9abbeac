"""Points, looked at: which mean the same, which cannot be run, and what names them."""

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.config import compose, hydra_session
from lmrun.config.places import Places
from lmrun.config.schema import RunConfig
from lmrun.errors import LmrunError
from lmrun.sweep.expansion import expand
from lmrun.sweep.planning import PlannedSweep, depends, plan_all

TINY = ("model=random_llama",)


def planned(*words: str, verb: str = "up") -> PlannedSweep:
    places = Places.at(Path.cwd())
    return plan_all(expand([*TINY, *words], places).candidates, verb, Store(env.home()), places)


def test_settings_of_a_quantization_that_is_not_made_tell_no_points_apart() -> None:
    sweep = planned("kv.bits=16,8,4", "quant.method=none,rtn,awq", "quant.group_size=32,64,128")
    assert len(sweep.points) == 3 * (1 + 3 + 3)
    assert [one.settings for one in sweep.merged[:2]] == [
        "kv.bits=16 quant.method=none quant.group_size=64",
        "kv.bits=16 quant.method=none quant.group_size=128",
    ]
    assert {one.into.keys["quant.method"] for one in sweep.merged} == {"none"}
    assert len({one.point.id for one in sweep.points}) == 21


def test_a_seed_tells_points_apart_only_where_something_is_calibrated() -> None:
    sweep = planned("quant.method=rtn,awq", "calibration.seed=0,1,2")
    kept = [
        (one.point.keys["quant.method"], one.point.keys["calibration.seed"]) for one in sweep.points
    ]
    assert kept == [("rtn", 0), ("awq", 0), ("awq", 1), ("awq", 2)]


@pytest.mark.parametrize(
    "words",
    [
        ("quant=none,none",),
        ("backend.context_length=null,2048",),
        ("kv.memory_ratio=0.3,0.30000000000000004",),
        ("kv.memory_ratio=0.5,0.8",),  # both hold more than is ever needed
        (
            "quant.method=rtn",
            "quant.skip=[layers.0.mlp.down_proj,layers.1.mlp.down_proj],"
            "[layers.1.mlp.down_proj,layers.0.mlp.down_proj]",
        ),
        ("quant.method=rtn", "quant.range=auto,full"),
        ("quant.method=gptq", "quant.format=auto,awq"),
    ],
    ids=" ".join,
)
def test_two_spellings_of_one_deployment_are_one_point(words: tuple[str, ...]) -> None:
    sweep = planned(*words)
    assert len(sweep.points) == 1
    assert len(sweep.merged) == 1


@pytest.mark.parametrize(
    "word",
    [
        "backend.threads=1,2",
        "kv.bits=8,4",
        "backend.max_num_seqs=2,3",
        "bench.requests=4,8",
        "model.served_name=a,b",
        "kv.memory=64MiB,32MiB",
        "kv.prefix_caching=true,false",
        "kv.bits=4 kv.keep=0,1",
        "kv.bits=4 kv.keep=1 kv.keep_bits=8,16",
        "kv.bits=4 kv.keep_layers=[0],[1]",
        "quant=gptq_w4_g64 quant.damping=0.01,0.02",
        "prune=none,magnitude",
    ],
)
def test_what_is_deployed_or_measured_otherwise_is_another_point(word: str) -> None:
    assert len(planned(*word.split()).points) == 2


def test_the_load_of_the_bench_tells_points_apart_only_where_they_are_timed() -> None:
    assert len(planned("bench.requests=4,8", verb="build").points) == 1
    assert len(planned("bench.requests=4,8", verb="bench").points) == 2


def test_what_is_illegal_or_cannot_fit_is_listed_with_its_reason_and_the_rest_stays() -> None:
    sweep = planned("kv.bits=8,5", "kv.memory=auto,1000TiB")
    assert [one.point.keys for one in sweep.runnable] == [{"kv.bits": 8, "kv.memory": "auto"}]
    reasons = [(one.point.keys, one.why_not) for one in sweep.points if one.why_not]
    assert reasons[0][0] == {"kv.bits": 8, "kv.memory": "1000TiB"}
    assert reasons[0][1].startswith("plan: needs 1000 TiB, device has ")
    assert reasons[1] == (
        {"kv.bits": 5, "kv.memory": "auto"},
        "kv.bits=5 (command line): expected one of 4, 8, 16 or 32.",
    )
    assert len(reasons) == 3


REFUSED = {
    ("kv.bits=5,6",): (
        3,
        "-m: none of 2 points can be run.\n"
        "  kv.bits=5: kv.bits=5 (command line): expected one of 4, 8, 16 or 32.\n"
        "  kv.bits=6: kv.bits=6 (command line): expected one of 4, 8, 16 or 32.",
    ),
    ("parallel.tp=2", "kv.bits=8,4"): (4, None),
    ("device=h100", "kv.bits=8,4"): (4, None),
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_sweep_without_a_point_that_can_be_run_is_refused(words: tuple[str, ...]) -> None:
    status, message = REFUSED[words]
    with pytest.raises(LmrunError) as caught:
        planned(*words)
    assert int(caught.value.status) == status
    assert str(caught.value).startswith("-m: none of 2 points can be run.\n")
    assert message is None or str(caught.value) == message


@pytest.mark.parametrize("verb", ["up", "bench", "plan"])
def test_a_load_that_cannot_be_sent_is_known_before_anything_is_built(verb: str) -> None:
    sweep = planned("bench.prompt_tokens=128,3000", "bench.trace=null,nowhere.csv", verb=verb)
    assert [one.why_not for one in sweep.points] == [
        "",
        "bench.trace=nowhere.csv (command line): expected a CSV file, got No such file or"
        " directory.",
        "bench.prompt_tokens=3000 (command line): with bench.output_tokens=32 a request has 3032"
        " tokens, the context 2048. Lower one of them.",
        "bench.trace=nowhere.csv (command line): expected a CSV file, got No such file or"
        " directory.",
    ]
    assert all(
        one.why_not == "" for one in planned("bench.prompt_tokens=128,3000", verb="build").points
    )


def test_a_plan_may_price_points_for_machines_that_are_described() -> None:
    sweep = planned("device=h100,l4", verb="plan")
    assert all(one.plan is not None and one.why_not for one in sweep.points)


def test_the_id_of_a_sweep_is_that_of_its_content() -> None:
    first = planned("kv.bits=8,4", "quant=none,rtn")
    assert first.id == planned("kv.bits=8,4", "quant=none,rtn").id
    assert first.id == planned("quant=rtn,none", "kv.bits=4,8").id
    assert first.id == planned("kv.bits=choice(8,4)", "quant.method=none,rtn").id
    others = [
        planned("kv.bits=8,4", "quant=none,rtn", verb="build"),
        planned("kv.bits=8,16", "quant=none,rtn"),
        planned("kv.bits=8,4", "quant=none,rtn", "bench.requests=3"),
        planned("kv.bits=8,4", "quant=none,rtn", "evaluate.data=builtin:stories"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 5


@pytest.mark.parametrize("verb", ["up", "eval", "plan"])
def test_points_that_are_compared_are_evaluated_unless_told_otherwise(verb: str) -> None:
    Path("recipes").mkdir()
    Path("recipes/judged.yaml").write_text("defaults:\n  - override /evaluate: full\n")
    quick = planned("kv.bits=8", verb=verb).points[0]
    assert quick.point.overrides[-1] == "evaluate=quick"
    assert quick.plan is not None and quick.plan.stage("evaluate") is not None
    none = planned("kv.bits=8", "evaluate=quick,none", verb=verb).points[1]
    assert none.plan is not None and none.plan.stage("evaluate") is None
    full = planned("kv.bits=8", "+recipe=judged", verb=verb).points[0]
    assert full.point.overrides == (*TINY, "kv.bits=8", "+recipe=judged")
    build = planned("kv.bits=8", verb="build").points[0]
    assert build.plan is not None and build.plan.stage("evaluate") is None


def test_an_evaluation_of_nothing_is_no_point_of_a_sweep_that_evaluates() -> None:
    [good, bad] = planned("evaluate=quick,none", verb="eval").points
    assert good.why_not == ""
    assert bad.why_not == (
        "evaluate: nothing is asked for. Choose evaluate=quick or evaluate=full."
    )


def test_a_trace_that_has_changed_is_replayed_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"

    def now(text: str | None) -> dict[str, str] | None:
        trace.write_text(text or "0,8,4\n")
        (one,) = planned(f"bench.trace={trace}").points
        if text is None:
            trace.unlink()
        assert one.plan is not None
        return depends(msgspec.convert(one.plan.config, RunConfig), one.plan, "bench")

    first = now("0,8,4\n1,8,4\n")
    assert first is not None
    assert now("0,8,4\n1,8,4\n") == first
    assert now("0,8,4\n2,8,4\n") != first
    assert now(None) is None


def test_looking_at_a_sweep_writes_nothing() -> None:
    planned("kv.bits=8,4", "quant=none,rtn,awq_w4_g64")
    assert list(env.home().iterdir()) == []
    assert list(Path.cwd().iterdir()) == []


def test_a_sweep_over_options_composes_the_sum_of_them_and_not_their_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hydra_session.merge.cache_clear()
    composed: list[list[str]] = []
    real = hydra_session.hydra.compose

    def counted(name: str, choices: list[str], **rest: Any) -> object:
        composed.append(choices)
        return real(name, choices, **rest)

    monkeypatch.setattr(hydra_session.hydra, "compose", counted)
    sweep = planned("evaluate=none", "kv=glob(*)", "quant=none,rtn,awq_w4_g64", "bench=quick,full")
    assert len(sweep.points) == 18
    # no option at all, then each on its own: model, evaluate, kv, quant, bench
    assert len(composed) <= 1 + 1 + 1 + 3 + 3 + 2


def test_composing_one_of_many_gives_what_composing_it_alone_gives(tmp_path: Path) -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text(
        "defaults:\n  - w4a16_kv4_server\n  - override /kv: kv8\n  - _self_\n"
        "model:\n  path: ${oc.env:HOME}\nbackend:\n  max_num_seqs: 3\n"
        "frontend:\n  drain_s: ${backend.max_num_seqs}\n"
    )
    recipes = ((), ("+recipe=w16_kv16_server",), ("+recipe=w4a16_kv4_server",), ("+recipe=mine",))
    options = (
        *((), ("kv=kv4",), ("quant=none", "kv=kv16"), ("evaluate=quick", "bench=full")),
        *(("kv=kv8", "kv=kv4"), ("device=h100", "frontend=api_gradio", "kv.bits=8")),
    )
    for recipe, chosen in itertools.product(recipes, options):
        words = (*recipe, *chosen)
        outcomes = [_outcome(words, is_one_of_many) for is_one_of_many in (False, True)]
        assert outcomes[0] == outcomes[1], words


def _outcome(words: tuple[str, ...], is_one_of_many: bool) -> object:
    try:
        return compose(words, is_one_of_many=is_one_of_many)
    except LmrunError as error:
        return str(error)


@pytest.mark.slow
def test_five_hundred_points_are_planned_in_less_than_twenty_seconds() -> None:
    import time

    began = time.process_time()
    sweep = planned("kv.bits=16,8,4", "quant=glob(*)", "backend.max_num_seqs=range(1,35)")
    spent = time.process_time() - began
    assert len(sweep.points) == 510
    assert spent < 20
