"""Which tokens are taken of which text, and what is refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmrun.errors import StageError
from lmrun.models.tokenizer import Tokenizer
from lmrun.stages import calibration_data
from lmrun.stages.calibration_data import Chats
from unit.stages.projects import TEXT, Project

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
]


def _tokenizer(project: Project) -> Tokenizer:
    return Tokenizer.from_folder(Path(project.model))


def _chat_file(folder: Path, *chats: Any) -> Path:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in chats))
    return path


def test_sequences_are_disjoint_pieces_behind_a_bos(project: Project) -> None:
    tokenizer = _tokenizer(project)
    text = calibration_data.read_text(project.text, 0)
    ids = calibration_data.take_sequences(tokenizer, text, 5, 40, seed=0)
    assert ids.shape == (5, 40)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    whole = tokenizer.encode(TEXT, add_special_tokens=False)
    pieces = [whole[i : i + 39] for i in range(0, len(whole), 39)]
    places = [pieces.index(row.tolist()) for row in ids[:, 1:]]
    assert places == sorted(places)
    other, same = (calibration_data.take_sequences(tokenizer, text, 5, 40, seed=s) for s in (1, 0))
    assert not np.array_equal(ids, other)
    assert np.array_equal(ids, same)


def test_too_little_text_is_refused_with_the_counts(project: Project) -> None:
    project.text.write_text("x" * 100)
    with pytest.raises(StageError) as caught:
        project.build()
    assert str(caught.value) == (
        f"calibration.data={project.text}: expected text for 8 sequences of 48 tokens (376 tokens),"
        " got 100 tokens. Use calibration.samples=2, shorter sequences, or a longer text."
    )


def test_text_shorter_than_one_sequence_says_how_long_one_may_be(project: Project) -> None:
    project.text.write_text("x" * 20)
    with pytest.raises(StageError, match=r"Use calibration\.seq_len=21 or less, or a longer text"):
        project.build()


def test_text_too_short_for_any_sequence_asks_for_more(project: Project) -> None:
    project.text.write_text("xyz")
    with pytest.raises(StageError, match=r"got 3 tokens\. Use a longer text\.$"):
        project.build()


def test_documents_are_joined_by_newlines(tmp_path: Path) -> None:
    path = tmp_path / "c4.json.gz"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n\n{"text": "two", "url": "u"}\n'))
    found = calibration_data.read_text(path, 0)
    assert found.text == "one\ntwo"
    assert (found.kind, found.documents, found.documents_read) == ("text", 2, 2)


def test_a_text_is_as_its_file_has_it(tmp_path: Path) -> None:
    path = tmp_path / "ptb.txt"
    path.write_text(" the <unk> of N years \n no it was n't \n \n")
    assert calibration_data.read_text(path, 0).text == path.read_text()


def test_of_a_large_file_the_seed_chooses_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_data, "LEAST_BYTES", 100)
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(50)))
    one = calibration_data.read_text(path, 4, seed=1)
    assert one.documents == 50
    assert 3 < one.documents_read < 6
    assert one.text == calibration_data.read_text(path, 4, seed=1).text
    assert one.text != calibration_data.read_text(path, 4, seed=2).text
    assert calibration_data.read_text(path, 1000, seed=1).documents_read == 50


def test_what_is_wrong_with_a_line_is_said_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "one"}\n{"txt": "x"}\n')
    with pytest.raises(StageError) as caught:
        calibration_data.read_text(path, 0)
    assert str(caught.value) == f"{path}:2: expected an object with a string `text`, got none."


def test_chats_are_rendered_by_the_template_of_the_model(tmp_path: Path) -> None:
    path = _chat_file(tmp_path, CHAT, CHAT[1:])
    (tmp_path / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}\n"
    )
    found = calibration_data.read_text(path, 0, chats=Chats(tmp_path, "auto", {"bos_token": "<s>"}))
    # Jinja drops the last line break of a template
    assert found.text == ("<s><system>Be kind.<user>Hi<assistant>Hello<s><user>Hi<assistant>Hello")
    assert (found.kind, found.documents) == ("chat", 2)


def test_chats_need_a_template(project: Project, tmp_path: Path) -> None:
    path = _chat_file(tmp_path, CHAT)
    with pytest.raises(StageError) as caught:
        project.build(f"calibration.data={path}")
    assert str(caught.value) == (
        f"calibration.data={path}: expected text, got chats (`messages`), and the model has no"
        " chat template. Set model.chat_template to a name that `lmrun list` shows or to a Jinja"
        " file, or name a file with `text`."
    )


def test_a_named_template_makes_text_of_chats_and_counts_for_the_artifact(
    project: Project, tmp_path: Path
) -> None:
    path = _chat_file(tmp_path, *[CHAT] * 40)
    settings = [f"calibration.data={path}", "model.chat_template=chatml"]
    project.build(*settings)
    data = project.artifact("calibrate", *settings).manifest.fields.metrics["data"]
    assert (data["kind"], data["documents"]) == ("chat", 40)
    one = project.plan(*settings).stage("calibrate")
    other = project.plan(settings[0], "model.chat_template=zephyr").stage("calibrate")
    assert one is not None and other is not None
    assert one.fingerprint != other.fingerprint


def test_the_template_of_a_plain_text_does_not_count(project: Project) -> None:
    one, other = (
        project.plan(f"model.chat_template={name}").stage("calibrate")
        for name in ("chatml", "zephyr")
    )
    assert one is not None and other is not None
    assert one.inputs == other.inputs


def test_what_a_template_refuses_is_named_by_its_line(tmp_path: Path) -> None:
    path = _chat_file(tmp_path, CHAT, CHAT[2:])
    with pytest.raises(StageError) as caught:
        calibration_data.read_text(
            path, 0, chats=Chats(tmp_path, "llama2", {"bos_token": "", "eos_token": ""})
        )
    assert str(caught.value) == (
        f"{path}:2: messages: the chat template refused them: roles must alternate user,"
        " assistant, user, ..."
    )
