"""What a hub refuses, gets wrong or does not have, as a user of its models is told."""

import json
from typing import Any

import pytest

from lmrun.errors import ExitStatus
from unit.models.hub_desk import (
    CANARY,
    MODEL,
    Desk,
    tree,
)

HOW = "set model.hub_token='${oc.env:NAME}' to a token that may read it"


def test_a_private_or_missing_model_is_refused(desk: Desk) -> None:
    expected = (
        f"model.hub_id=@ID (command line): no such model on {desk.hub.url}, or a private one."
        f" Check the name; if it is private, {HOW}."
    )
    assert desk.refused("model.hub_id=org/none") == expected.replace("@ID", "org/none")
    desk.repository.token = CANARY
    assert desk.refused(MODEL) == expected.replace("@ID", "org/tiny")


def test_a_gated_model_is_refused_before_its_weights_are_asked_for(desk: Desk) -> None:
    desk.repository.token, desk.repository.gated = CANARY, True
    assert desk.refused(MODEL) == (
        "model.hub_id=org/tiny (command line): gated: its owners grant access one by one. Ask for"
        f" it on {desk.hub.url}/org/tiny, then {HOW}."
    )


def test_an_unknown_revision_is_refused(desk: Desk) -> None:
    assert desk.refused(MODEL, "model.revision=v9") == (
        "model.revision=v9 (command line): no such revision of org/tiny."
        " Name a commit, a branch or a tag."
    )


def test_a_tag_is_a_revision(desk: Desk) -> None:
    desk.repository.revisions.add("v1.0")
    assert desk.plan(MODEL, "model.revision=v1.0")["hub"]["revision"] == "v1.0"


def test_pickles_alone_are_refused_before_anything_is_fetched(desk: Desk) -> None:
    folder = desk.repository.folder
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = desk.refused(MODEL)
    assert message.startswith(
        f"model.hub_id=org/tiny@{desk.repository.commit[:12]} (command line): expected"
        " model.safetensors, got only pytorch_model.bin. Those are pickle files, which lmrun does"
        " not read"
    )
    assert message.endswith('" org/tiny NEW_FOLDER (and copy the tokenizer files).')
    assert desk.hub.requests == ["GET /api/models/org/tiny/revision/main"]


def test_a_repository_without_config_is_refused(desk: Desk) -> None:
    (desk.repository.folder / "config.json").unlink()
    assert "expected config.json, got no such file" in desk.refused(MODEL)


def test_a_model_that_cannot_be_served_is_refused_by_its_config(desk: Desk) -> None:
    file = desk.repository.folder / "config.json"
    file.write_text(file.read_text().replace("LlamaForCausalLM", "OtherForCausalLM"))
    assert "architecture OtherForCausalLM is not built yet" in desk.refused(MODEL)


def test_a_model_that_is_known_and_not_served_is_priced_before_it_is_downloaded(
    desk: Desk,
) -> None:
    file = desk.repository.folder / "config.json"
    config = {**json.loads(file.read_text()), "architectures": ["InternLM2ForCausalLM"]}
    file.write_text(json.dumps(config))
    plan = desk.plan(MODEL, "device=rtx4090")
    assert plan["budget"]["weights_bytes"] > 0
    assert plan["refusals"][0].startswith(
        "model.hub_id=org/tiny (command line): config.json: architecture InternLM2ForCausalLM is"
        " not built yet. Supported: "
    )
    build = desk.run("build", MODEL, "-q")
    assert build.status == ExitStatus.REFUSED
    assert "model.safetensors" not in "".join(desk.hub.requests)


def test_a_hub_that_is_down_is_a_failure_and_not_a_refusal(desk: Desk) -> None:
    desk.hub.status = 503
    done = desk.run("plan", MODEL)
    assert done.status == ExitStatus.STAGE_FAILED
    assert done.err == (
        f"lmrun: model.hub_id=org/tiny (command line): {desk.hub.url} failed (HTTP 503)."
        " Try again later; what is downloaded is kept.\n"
    )


def test_a_hub_that_cannot_be_reached_is_a_failure(desk: Desk) -> None:
    done = desk.run("plan", MODEL, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.status == ExitStatus.STAGE_FAILED
    assert done.err.startswith(
        "lmrun: model.hub_id=org/tiny (command line): cannot reach http://127.0.0.1:9 ("
    )
    assert done.err.endswith("With model.hub_offline=true the cache alone is used.\n")


def test_a_hub_cannot_name_a_place_outside_its_cache(desk: Desk) -> None:
    sibling = desk.repository.siblings()[-1]
    lies: list[dict[str, Any]] = [
        {"sha": "../../../elsewhere"},
        {"siblings": [{**sibling, "lfs": {"sha256": "../../x", "size": 1, "pointerSize": 1}}]},
    ]
    for lie in lies:
        desk.hub.lie = lie
        done = desk.run("build", MODEL, "-q")
        assert done.status == ExitStatus.STAGE_FAILED
        assert "got something else. Is that a Hugging Face hub?" in done.err
        assert tree(desk.root / "hf") == []


@pytest.mark.parametrize(
    "lie",
    [
        {"siblings": "x"},
        {"siblings": [{"size": 1}]},
        {"siblings": [{"rfilename": "config.json", "size": "x"}]},
        {"siblings": [{"rfilename": "config.json", "size": -5}]},
        {"sha": 7},
    ],
)
def test_what_no_hub_says_is_a_failure_and_no_bug(desk: Desk, lie: dict[str, Any]) -> None:
    desk.hub.lie = lie
    done = desk.run("plan", MODEL)
    assert done.status == ExitStatus.STAGE_FAILED, done.err
    assert done.err.endswith(", got something else. Is that a Hugging Face hub?\n")


def test_a_page_in_place_of_an_answer_is_a_failure(desk: Desk) -> None:
    desk.hub.page = b"<html>Please log in to this network.</html>"
    done = desk.run("plan", MODEL)
    assert done.status == ExitStatus.STAGE_FAILED, done.err
    assert done.err.endswith(", got something else. Is that a Hugging Face hub?\n")


def test_a_hub_that_sends_on_and_on_fills_no_disk(desk: Desk) -> None:
    desk.hub.endless = True
    done = desk.run("build", MODEL, "-q")
    assert done.status == ExitStatus.STAGE_FAILED
    size = (desk.repository.folder / "model.safetensors").stat().st_size
    assert (
        f"model.hub_id=org/tiny: model.safetensors: expected {size} bytes, as the hub says, got"
        " more. The bytes are dropped; run the command again.\n"
    ) in done.err
    assert desk.partial.stat().st_size == 0
    desk.hub.endless = False
    assert desk.run("build", MODEL, "-q").status == 0


def test_a_hub_that_sends_on_and_on_fills_no_memory(desk: Desk) -> None:
    desk.hub.endless, desk.hub.heeds_ranges = True, False
    assert desk.refused(MODEL).endswith(
        "model.safetensors: expected a safetensors file, got a header that is no JSON"
        " (Expecting value: line 1 column 1 (char 0)). Copy it again."
    )


def test_a_file_that_plain_http_does_not_bring_is_refused_with_another_way(desk: Desk) -> None:
    siblings = desk.repository.siblings()
    for one in siblings:
        if "lfs" in one:
            one["size"] = one["lfs"]["size"] = 60 * 10**9
    desk.hub.lie = {"siblings": siblings}
    done = desk.refused(MODEL)
    assert "larger than 50 GB" in done
