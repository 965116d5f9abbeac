"""Chat templates: messages in, one prompt string out, through a sandboxed Jinja.

A template is code from a stranger: it runs in an immutable sandbox, sees plain data only, and can
import nothing.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lmrun.errors import ArtifactError, ConfigError, RequestError

NAMED_TEMPLATES: Mapping[str, str] = {
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}"
        "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
        "{% set turns = messages[1:] %}"
        "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for message in turns %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate user, assistant, user, ...') }}"
        "{% endif %}"
        "{% if message['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + (system if loop.first else '')"
        " + message['content'].strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'].strip() + ' ' + eos_token }}"
        "{% else %}{{ raise_exception('a system message comes first') }}{% endif %}"
        "{% endfor %}"
    ),
    "llama3": (
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
        " + message['content'].strip() + '<|eot_id|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
}
"""The closed list of names that `model.chat_template` accepts beside `auto` and a file."""


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str, *, origin: str) -> None:
        """``origin`` names where the source came from; `ConfigError` when it is not Jinja."""
        self.source = source
        self.origin = origin
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(
                f"{origin}: not a Jinja template: line {error.lineno}: {error.message}."
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        special_tokens: Mapping[str, str] | None = None,
    ) -> str:
        """The prompt of a conversation; encode it without adding special tokens.

        ``tools`` are functions as `{"type": "function", "function": {...}}`. A template that does
        not know the role `environment` gets `tool` for it. ``special_tokens`` are the names a
        template may use (`Tokenizer.special_tokens`).
        `RequestError` when the template refuses the messages.
        """
        try:
            return self._template.render(
                messages=[self._turn(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **(special_tokens or {}),
            )
        except jinja2.TemplateError as error:
            raise RequestError(
                f"messages: the chat template refused them: {error.message}"
            ) from error
        except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise RequestError(
                f"messages: the chat template failed on them: {type(error).__name__}: {error}"
            ) from error

    def _turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        turn = dict(message)
        if turn.get("role") == "environment" and "environment" not in self.source:
            turn["role"] = "tool"
        return turn


def load(choice: str, folder: Path) -> ChatTemplate | None:
    """The template that ``model.chat_template`` asks for.

    ``auto``: ``chat_template.jinja`` of the model folder, else ``chat_template`` of its
    tokenizer_config.json (of several, ``default``), else None. Otherwise a name of
    `NAMED_TEMPLATES` or a file. Raises `ConfigError`.
    """
    if choice == "auto":
        return _own(folder)
    if choice in NAMED_TEMPLATES:
        return ChatTemplate(NAMED_TEMPLATES[choice], origin=f"model.chat_template={choice}")
    path = Path(choice).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"model.chat_template={choice}: no such file, and no such name. Use auto, a Jinja"
            f" file, or one of {', '.join(sorted(NAMED_TEMPLATES))}."
        )
    return ChatTemplate(_read(path), origin=str(path))


def _own(folder: Path) -> ChatTemplate | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return ChatTemplate(_read(path), origin=str(path))
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
    except (ValueError, RecursionError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a JSON object: {error}") from error
    if isinstance(value, list):
        named = {entry["name"]: entry["template"] for entry in value}
        if "default" not in named:
            raise ArtifactError(
                f"{path}: chat_template: expected one named `default`, got"
                f" {', '.join(named)}. Set model.chat_template to a Jinja file."
            )
        value = named["default"]
    return None if value is None else ChatTemplate(value, origin=str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: not UTF-8 text: {error}") from error


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what an assistant wrote, for training; here its body is text."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,  # noqa: ANN401 - whatever a template holds
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML; models were trained on plain JSON."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment
