"""Chat templates render as transformers renders them, in a sandbox."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmrun.errors import ArtifactError, ConfigError, LmrunError, RequestError
from lmrun.models import chat_template
from lmrun.models.chat_template import NAMED_TEMPLATES, ChatTemplate

USER = {"role": "user", "content": 'hi <é> & "q"'}
CHATS: list[list[dict[str, Any]]] = [
    [USER],
    [USER, {"role": "assistant", "content": " yo "}, USER],
    [{"role": "system", "content": "be brief"}, USER, {"role": "assistant", "content": "x"}, USER],
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def render(source: str, messages: list[dict[str, Any]] | None = None, **options: bool) -> str:
    template = ChatTemplate(source, origin="test")
    return template.render(messages or [USER], special_tokens=SPECIAL, **options)


def test_published_templates_render_as_in_transformers(test_data: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(test_data / "models" / "stories3m")
    special = {name: str(text) for name, text in theirs.special_tokens_map.items()}
    rendered = 0
    files = sorted((test_data / "templates").glob("*.jinja"))
    for path in files:
        ours = chat_template.load(str(path), path.parent)
        assert ours is not None
        for chat in CHATS:
            for generate in (True, False):
                try:
                    expected = theirs.apply_chat_template(
                        chat,
                        tokenize=False,
                        add_generation_prompt=generate,
                        chat_template=path.read_text(encoding="utf-8"),
                    )
                except Exception:  # noqa: BLE001 - whatever a template raises
                    with pytest.raises(RequestError):
                        ours.render(chat, add_generation_prompt=generate, special_tokens=special)
                    continue
                rendered += 1
                assert expected == ours.render(
                    chat, add_generation_prompt=generate, special_tokens=special
                ), path.name
    assert rendered > 5 * len(files)


GOLDEN = {
    "chatml": (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]",
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "zephyr": "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n"
    "<|assistant|>\n",
}


@pytest.mark.parametrize("name", sorted(NAMED_TEMPLATES))
def test_named_templates_write_the_text_their_models_were_trained_on(name: str) -> None:
    turns = [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert render(NAMED_TEMPLATES[name], messages) == GOLDEN[name]


def test_auto_prefers_the_jinja_file_then_the_tokenizers_default(tmp_path: Path) -> None:
    assert chat_template.load("auto", tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text("{}")
    assert chat_template.load("auto", tmp_path) is None

    def rendered() -> str:
        template = chat_template.load("auto", tmp_path)
        assert template is not None
        return template.render([USER])

    config.write_text(json.dumps({"chat_template": "one"}))
    assert rendered() == "one"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert rendered() == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert rendered() == "file"


def test_a_file_and_a_name_are_taken_before_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("own")
    other = tmp_path / "other.jinja"
    other.write_text("other")
    for choice, origin in ((str(other), str(other)), ("chatml", "model.chat_template=chatml")):
        template = chat_template.load(choice, tmp_path)
        assert template is not None
        assert template.origin == origin


def test_an_unknown_name_lists_the_legal_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        chat_template.load("chatmml", tmp_path)
    assert str(caught.value) == (
        "model.chat_template=chatmml: no such file, and no such name. Use auto, a Jinja file, or"
        " one of chatml, llama2, llama3, zephyr."
    )


def test_broken_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"test: not a Jinja template: line 2: .*"):
        render("a\n{% if %}")
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": [{"name": "rag", "template": "x"}]}))
    with pytest.raises(ArtifactError, match="expected one named `default`, got rag"):
        chat_template.load("auto", tmp_path)
    path.write_text("[")
    with pytest.raises(ArtifactError, match="not a JSON object"):
        chat_template.load("auto", tmp_path)


def test_a_refusal_of_the_template_is_a_request_error() -> None:
    with pytest.raises(RequestError) as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert str(caught.value) == "messages: the chat template refused them: roles must alternate"
    with pytest.raises(RequestError, match="the chat template failed on them: TypeError"):
        render("{{ 1 + 'a' }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ (messages|map(attribute='__class__')|list)[0].__subclasses__() }}",
        "{{ range(10**9)|list }}",
        "{{ '%s'.__mod__.__self__.__class__ }}",
        "{{ raise_exception.__globals__['json'] }}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    with pytest.raises(LmrunError):
        render(source)


def test_blocks_are_trimmed_and_json_is_plain() -> None:
    assert render("{% if true %}\n  x\n  {% endif %}\ny") == "  x\ny"
    assert render("{{ {'b': '<é>', 'a': 1}|tojson }}") == '{"b": "<é>", "a": 1}'
    assert render("{% generation %}x{% endgeneration %}") == "x"
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}")
    assert len(render("{{ strftime_now('%Y') }}")) == 4
