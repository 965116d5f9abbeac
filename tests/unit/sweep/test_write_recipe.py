"""`--write-recipe`: the recipe of a point plans as the point does, and says why it was taken."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.config.places import Places
from lmrun.config.recipe_file import RecipeFile
from lmrun.errors import PlanError, UsageError
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from lmrun.sweep.choose import choose
from lmrun.sweep.conclusion import Conclusion, conclude
from lmrun.sweep.expansion import expand
from lmrun.sweep.planning import plan_all
from lmrun.sweep.rows import Row, Status, Sweep
from lmrun.sweep.write_recipe import Reason, only_point, write_recipe, yaml_text
from unit.sweep.grid import bench, quality, with_status

MODEL = "model=random_llama"
SWEPT = ("kv.bits=16,4", "quant.method=none,rtn")


def measured_sweep(*words: str) -> Sweep:
    """What these words plan, each point with figures: the later, the better."""
    places = Places.at(Path.cwd())
    planned = plan_all(expand(words, places).candidates, "up", Store(env.home()), places)
    rows: list[Row] = []
    for number, one in enumerate(planned.points):
        speed = bench(20 - number, 5, 100 + 10 * number)
        ratio = quality(1.05 - number / 100)
        rows.append(dataclasses.replace(one.row, status=Status.ok, bench=speed, quality=ratio))
    return Sweep(
        id="0123456789ab",
        folder=Path("/sweeps/0123456789ab"),
        command=("-m", *words),
        created="2026-11-21T17:00:00Z",
        rows=tuple(rows),
    )


def conclusion_of(*words: str) -> Conclusion:
    return conclude(measured_sweep(*words))


def written(conclusion: Conclusion, expression: str = "max tokens_per_s") -> tuple[Row, str]:
    """The row that the expression picks, and the text of its recipe `mine`."""
    chosen = choose(conclusion, expression)
    target = RecipeFile("mine", Path("recipes"))
    write_recipe(conclusion, Reason.of_choice(chosen), target, Store(env.home()))
    return chosen.entry.rows[0], target.path.read_text()


def without_names(plan: Plan) -> Plan:
    """A plan without what says where its settings come from."""
    names = [field.name for field in dataclasses.fields(plan)]
    told = {
        name: None for name in ("recipe", "recipe_path", "overrides", "origins") if name in names
    }
    return dataclasses.replace(plan, **told)


@pytest.mark.parametrize(
    "words",
    [
        (MODEL, *SWEPT),
        ("+recipe=w4a16_kv4_server", "kv.bits=8,4", "frontend.ui=none"),
        ("+recipe=w4a16_kv4_server", "quant=none,rtn,awq_w4_g32", "kv=kv8"),
        ("recipe=w16_kv16_server,w4a16_kv4_server", "backend.max_num_seqs=4"),
        ("'+recipe=[w16_kv16_server,other]'", MODEL, "kv.bits=16,8"),
        (MODEL, "bench=full", "bench.concurrency=[1,2],[1]", "kv.memory_ratio=0.5,0.25"),
        (MODEL, "evaluate.data=builtin:stories", "evaluate.tasks.mine=t.jsonl", "kv.bits=8,4"),
        (MODEL, "evaluate.tasks={mine:t.jsonl,other:t.jsonl}", "kv.bits=8,4"),
        (MODEL, "frontend.api_keys=['${oc.env:KEY}']", "kv.bits=8,4"),
        (MODEL, "model.served_name='a: \"b\" #c'", "kv.memory=1GiB,auto"),
        (MODEL, "model.served_name=null,yes", "backend.threads=null"),
        ("model.path=builtin:random-llama,builtin:demo",),
    ],
)
def test_the_recipe_plans_as_the_point_does(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "secret")
    Path("t.jsonl").write_text('{"prompt": "a", "choices": ["b", "c"], "answer": 0}\n')
    Path("recipes").mkdir()
    Path("recipes/other.yaml").write_text("# Other.\nbackend:\n  max_num_seqs: 3\n")
    words = tuple(word.strip("'") if word.startswith("'+") else word for word in words)
    row, text = written(conclusion_of(*words))
    point, recipe = compose(row.point.overrides), compose(["+recipe=mine"])
    assert recipe.run == point.run
    store = Store(env.home())
    assert without_names(make_plan(recipe, store)) == without_names(make_plan(point, store))
    assert "secret" not in text
    assert len(text.splitlines()) < 30


def test_the_recipe_word_for_word() -> None:
    _, text = written(
        conclusion_of("+recipe=w4a16_kv4_server", "kv=kv8,kv4", "quant.group_size=64,128"),
        "max tokens_per_s where ppl_ratio < 1.04",
    )
    head, _, body = text.partition("defaults:\n")
    found = re.sub(r"(memory|weights|KV cache) [\d.]+ GiB", r"\1 N GiB", head)
    found = re.sub(r"lmrun [\d.]+ on \d{4}-\d\d-\d\d", "lmrun V on DAY", found)
    assert (
        found
        == """\
# kv=kv4 quant.group_size=128, chosen from the 4 points of a sweep.
# yaml-language-server: $schema=recipe.schema.json
#   max tokens_per_s where ppl_ratio < 1.04
# tokens_per_s 130 is the most of 2 points with ppl_ratio < 1.04.
# Its figures: memory N GiB, weights N GiB, KV cache N GiB, perplexity 6.528,
# perplexity ratio 1.0200, KL 0.0180 nat, top-1 0.9600, tool calls 0.900, TTFT 17.0 ms,
# ITL 5.00 ms, tokens/s 130.0, requests/s 4.06.
# Measured on 2026-11-21 on Example CPU (avx512, 2 cores, 24 GiB).
# Written by lmrun V on DAY; all points: `lmrun sweep show 0123456789ab`.
"""
    )
    assert body == (
        "  - w4a16_kv4_server\n  - override /kv: kv4\n  - override /evaluate: quick\n"
        "quant:\n  group_size: 128\n"
    )
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_folder_gets_the_schema_that_editors_read() -> None:
    written(conclusion_of(MODEL, *SWEPT))
    assert Path("recipes/recipe.schema.json").is_file()


def test_seeds_are_means_and_the_first_is_written() -> None:
    row, text = written(conclusion_of(MODEL, "kv.bits=8", "bench.seed=0,1,2"))
    assert row.point.keys["bench.seed"] == 0
    flat = " ".join(text.replace("#", "").split())
    assert "Means of 3 seeds (± sample standard deviation); this is the first." in flat


def test_nothing_is_overwritten_and_no_shipped_recipe_is_hidden() -> None:
    conclusion = conclusion_of(MODEL, *SWEPT)
    written(conclusion)
    before = Path("recipes/mine.yaml").read_text()
    chosen = Reason.of_choice(choose(conclusion, "min tokens_per_s"))
    store = Store(env.home())
    for name, message in (
        ("mine", "recipes/mine.yaml: is there already. Write --force to replace it."),
        (
            "w4a16_kv4_server",
            "w4a16_kv4_server: is a recipe that comes with lmrun, which yours would hide. Choose"
            " another name, or write --force.",
        ),
    ):
        with pytest.raises(UsageError) as caught:
            write_recipe(conclusion, chosen, RecipeFile(name, Path("recipes")), store)
        assert str(caught.value) == message
    assert Path("recipes/mine.yaml").read_text() == before
    write_recipe(conclusion, chosen, RecipeFile("mine", Path("recipes"), force=True), store)
    assert Path("recipes/mine.yaml").read_text() != before


def test_a_recipe_that_changed_since_the_sweep_is_refused() -> None:
    Path("recipes").mkdir()
    Path("recipes/base.yaml").write_text(
        f"# Base.\ndefaults:\n  - override /{MODEL.replace('=', ': ')}\n"
    )
    conclusion = conclusion_of("+recipe=base", "kv.bits=8,4")
    with Path("recipes/base.yaml").open("a") as file:
        file.write("backend:\n  max_num_seqs: 2\n")
    with pytest.raises(PlanError) as caught:
        written(conclusion)
    assert str(caught.value) == (
        "--write-recipe: the overrides of point 2 mean other settings than were measured: a recipe"
        " or an option that they name has changed, or lmrun has. Run the sweep again: lmrun -m"
        " +recipe=base kv.bits=8,4"
    )
    assert not Path("recipes/mine.yaml").exists()


def test_a_recipe_that_is_gone_is_refused() -> None:
    Path("recipes").mkdir()
    base = Path("recipes/base.yaml")
    base.write_text("# Base.\ndefaults:\n  - override /model: random_llama\n")
    conclusion = conclusion_of("+recipe=base", "kv.bits=8,4")
    base.unlink()
    with pytest.raises(
        PlanError, match=r"^--write-recipe: point 2 is not legal any more: recipe=base"
    ):
        written(conclusion)


def test_without_a_choice_the_one_point_of_the_front_is_taken() -> None:
    conclusion = conclusion_of(MODEL, "kv.bits=16,8")
    assert only_point(conclusion).entry.settings == {"kv.bits": 8}
    target = RecipeFile("mine", Path("recipes"))
    write_recipe(conclusion, only_point(conclusion), target, Store(env.home()))
    assert yaml.safe_load(target.path.read_text())["kv"] == {"bits": 8}
    flat = " ".join(target.path.read_text().replace("#", "").split())
    assert (
        "No other point is on the Pareto front of memory_gib, ppl_ratio, ttft_ms, tokens_per_s."
        in flat
    )


def test_of_several_on_the_front_one_must_be_chosen() -> None:
    sweep = measured_sweep(MODEL, "kv.bits=16,8")
    rows = [dataclasses.replace(one, quality=quality(1 + n)) for n, one in enumerate(sweep.rows)]
    with pytest.raises(PlanError) as caught:
        only_point(conclude(dataclasses.replace(sweep, rows=tuple(rows))))
    assert str(caught.value) == (
        "--write-recipe: 2 points are on the Pareto front: 1 (kv.bits=16); 2 (kv.bits=8). Pick one"
        " with --choose, as in --choose 'max tokens_per_s where ppl_ratio < 1.02'."
    )


def test_where_no_point_passed_there_is_nothing_to_write() -> None:
    sweep = measured_sweep(MODEL, "kv.bits=16,8")
    rows = tuple(with_status(one, Status.gate_failed, "worse") for one in sweep.rows)
    with pytest.raises(PlanError, match="no point of this sweep is on the Pareto front"):
        only_point(conclude(dataclasses.replace(sweep, rows=rows)))


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -3, 0.5, 1e-05, 1e22, "a", "no", "Null", "1.5", "a b", "ü: #", "x\ny", "",
     ["a", 1], [], {"k": 0.5, "no": "yes"}],
)  # fmt: skip
def test_values_read_back_from_yaml(value: object) -> None:
    text = f"key: {yaml_text(value)}\n"
    assert yaml.safe_load(text) == {"key": value}
    assert type(yaml.safe_load(text)["key"]) is type(value)
