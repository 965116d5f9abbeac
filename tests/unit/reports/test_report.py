"""`lmrun report`: what is read from the store, and how it is shown."""

import json
import os
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from lmrun.cli import main
from lmrun.config import compose
from lmrun.errors import ExitStatus, PlanError
from lmrun.quant import kv
from lmrun.reports.gather import gather
from lmrun.reports.html import html
from lmrun.reports.html_plots import plots
from lmrun.reports.report import SCHEMA, Report, to_document
from lmrun.reports.text import facts, report_text
from lmrun.stages.runner import build
from unit.reports.conftest import quality_of
from unit.stages.projects import Project

ROLES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _report(project: Project, *more: str) -> Report:
    words = [*quality_of(project), *more]
    run = compose(project.overrides(*words)).run
    return gather(project.plan(*words), run.kv, project.store)


def test_the_report_holds_what_each_stage_left(built: Project) -> None:
    report = _report(built)
    assert report.num_layers == len(report.layers) == 3
    assert report.roles() == ROLES
    artifact = built.artifact("quantize", *quality_of(built))
    stored = json.loads((artifact.path / "report.json").read_text())
    assert [layer.linears for layer in report.layers] == stored["layers"]
    metrics = artifact.manifest.fields.metrics
    assert [layer.seconds for layer in report.layers] == metrics["seconds_by_layer"]
    calibration = built.artifact("calibrate", *quality_of(built))
    errors = kv.read_errors(calibration.path / "calibration.safetensors")
    for index, layer in enumerate(report.layers):
        assert layer.kv is not None
        assert layer.kv["4"]["output"] == errors[4][index].output
        assert layer.kv["8"]["key"] == errors[8][index].key
    assert report.calibration is not None
    assert report.calibration["token_ids_sha256"]
    assert set(report.seconds) == {"calibrate", "quantize", "convert", "baseline", "evaluate"}
    assert report.missing == ()


def test_before_and_after_are_of_the_same_text(built: Project) -> None:
    report = _report(built)
    before, after = report.before_after["perplexity"]
    assert before is not None and after is not None
    assert before != after
    assert report.quality is not None
    assert (after / before) == pytest.approx(report.quality["ppl_ratio"])
    before, after = report.before_after["weight_bytes"]
    assert before == report.sizes.float_weights == 4 * _parameters(built)
    assert report.sizes.float_linears is not None and report.sizes.quantized_linears is not None
    assert report.sizes.quantized_linears < report.sizes.float_linears / 4


def _parameters(project: Project) -> int:
    return project.plan().spec.num_parameters()


def test_the_document_fits_its_schema(built: Project) -> None:
    document = json.loads(json.dumps(to_document(_report(built))))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["quantization"]["method"] == "awq"
    assert document["before_after"]["perplexity"]["after"] == document["quality"]["perplexity"]


def test_the_text_says_what_was_done_and_what_it_cost(built: Project) -> None:
    lines = report_text(_report(built)).splitlines()
    assert lines[0] == "model"
    found = {line[:16].strip(): line[16:].strip() for line in lines}
    assert found["quantized"] == "awq, 4 bits, groups of 32, with zero points, in awq"
    assert found["calibrated on"].startswith(
        "384 tokens; ranges and KV errors on 384 of them; ids "
    )
    assert "before, " in found["perplexity"]
    assert found["measured on"] == "held_out.txt, 310 tokens in windows of 32; KL over 62"
    head = next(line for line in lines if line.startswith("layer"))
    assert head.split() == [
        *("layer", "q", "k", "v", "o", "gate", "up", "down", "seconds"),
        *("KV", "8", "bits", "KV", "4", "bits"),
    ]
    assert lines[lines.index(head) + 3].startswith("2 ")


def test_kept_layers_of_the_kv_cache_are_named(built: Project) -> None:
    report = _report(built, "kv.bits=4", "kv.keep=1")
    errors = [layer.kv["4"]["output"] for layer in report.layers if layer.kv]
    assert report.kept_kv_layers == (errors.index(max(errors)),)
    assert f"; layers {report.kept_kv_layers[0]} at more bits" in report_text(report)


@pytest.mark.parametrize(
    ("settings", "said", "of"),
    [
        (("prune.method=sparsegpt", "prune.sparsity=0.25"), "sparsegpt, anywhere: 2", "outputs"),
        (("prune.method=wanda", "prune.pattern='2:4'"), "wanda, 2:4: 50.0%", "independent"),
        (("prune.method=magnitude",), "magnitude, anywhere: 50.0%", "weights"),
    ],
)
def test_what_pruning_took_is_told_layer_by_layer(
    built: Project, settings: tuple[str, ...], said: str, of: str
) -> None:
    words = [*settings, "quant.method=none"]
    plan = built.plan(*words)
    build(plan, built.store)
    report = gather(plan, compose(built.overrides(*words)).run.kv, built.store)
    assert report.pruned_roles() == ROLES
    assert report.roles() == []
    artifact = built.artifact("prune", *words).manifest.fields.metrics
    for layer, row in zip(report.layers, artifact["layers"], strict=True):
        assert dict(layer.pruned) == row
        assert all(0 < one["relative_error"] < 1 for one in layer.pruned.values())
    assert report.pruning is not None
    assert of in report.pruning.error_of
    assert dict(facts(report))["pruned"].startswith(said)
    lines = report_text(report).splitlines()
    head = next(line for line in lines if line.startswith("layer"))
    assert head.split() == ["layer", "q", "k", "v", "o", "gate", "up", "down", "seconds"]
    assert f"pruned: relative squared error of the {report.pruning.error_of}" in lines
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(to_document(report))))
    assert next(iter(plots(report))).id == "pruned"
    assert html(report).count("<td>q_proj</td>") == 3


def test_what_has_not_run_is_said(built: Project) -> None:
    run = compose(built.overrides("quant.skip=[layers.0.mlp.down_proj]")).run
    plan = built.plan("quant.skip=[layers.0.mlp.down_proj]")
    report = gather(plan, run.kv, built.store)
    assert report.missing == (
        "quantize has not run: `lmrun build` with the same settings runs it",
        "convert has not run: `lmrun build` with the same settings runs it",
        "quality is not measured: the recipe asks for no evaluation (evaluate=quick does)",
    )
    assert report.quantization is None
    assert "missing: quantize has not run" in report_text(report)
    jsonschema.Draft202012Validator(SCHEMA).validate(to_document(report))


def test_a_deployment_that_was_never_built_is_refused(built: Project) -> None:
    words = ["calibration.seed=9"]
    with pytest.raises(PlanError) as caught:
        gather(built.plan(*words), compose(built.overrides(*words)).run.kv, built.store)
    assert str(caught.value) == (
        "report: nothing of this deployment is in the store. Run it first: `lmrun build` with the"
        " same settings; with evaluate=quick its quality is measured too."
    )


def test_a_report_that_was_changed_counts_as_absent(built: Project) -> None:
    path = built.artifact("quantize", *quality_of(built)).path / "report.json"
    whole = path.stat()
    path.write_text(path.read_text() + " ")
    try:
        assert _report(built).missing == (
            "quantize has not run: `lmrun build` with the same settings runs it",
        )
    finally:
        path.write_text(path.read_text()[:-1])
        os.utime(path, ns=(whole.st_atime_ns, whole.st_mtime_ns))


def test_plots_have_a_point_for_each_layer_and_the_page_is_whole(built: Project) -> None:
    report = _report(built)
    drawn = {plot.id: plot for plot in plots(report)}
    assert list(drawn) == ["errors", "scales", "seconds", "kv"], "awq has scales and no alphas"
    errors = drawn["errors"].figure["data"]
    assert [trace["name"] for trace in errors] == ["q", "k", "v", "o", "gate", "up", "down"]
    assert all(len(trace["y"]) == 3 for plot in drawn.values() for trace in plot.figure["data"])
    page = html(report)
    assert page.count("<td>q_proj</td>") == 3
    assert "http://" not in page.partition("<script>")[0]


def test_names_of_models_cannot_leave_the_page(built: Project) -> None:
    from dataclasses import replace

    page = html(replace(_report(built), model="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_verb_prints_text_or_json_and_writes_the_page(
    built: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(built.store.home))
    words = built.overrides(*quality_of(built))
    page = tmp_path / "page.html"
    assert main.run(["report", *words, "--html", str(page)]) is ExitStatus.OK
    assert capsys.readouterr().out.startswith("model\nquantized ")
    assert page.stat().st_size > 1_000_000
    assert main.run(["report", *words, "--json"]) is ExitStatus.OK
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(capsys.readouterr().out))


def test_a_page_that_cannot_be_written_is_refused_before_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["report", f"--html={tmp_path / 'no' / 'page.html'}"]) is ExitStatus.USAGE
    assert "is no folder. Make it, or name another." in capsys.readouterr().err


def test_weights_that_grew_are_not_called_smaller(built: Project) -> None:
    found = _report(built)
    grown = replace(found, sizes=replace(found.sizes, float_weights=1000, weights=1600))
    assert dict(facts(grown))["weights"] == "1000 B before, 1.56 KiB after (1.60 times larger)"
