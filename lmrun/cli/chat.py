"""`lmrun chat`: a conversation in the terminal, with a server or with an engine of its own."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Protocol

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags, server_flags
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.config.schema import FrontendConfig
from lmrun.deploy.building import build
from lmrun.engine.llm import LLM
from lmrun.engine.messages import SamplingParams
from lmrun.errors import ExitStatus, LmrunError, UsageError
from lmrun.ui.api import Api, Message, Sampling
from lmrun.ui.replies import write

with suppress(ImportError):  # some builds of Python lack it
    import readline  # noqa: F401 - gives `input` line editing and a history

FLAGS = {
    **server_flags.FLAGS,
    "--system": True,
    "--max-tokens": True,
    "--temperature": True,
}
MAX_TOKENS = 512
TEMPERATURE = 0.7
NO_TEMPLATE = "note: this model has no chat template; each message is continued as plain text."
HELP = "/reset forgets the conversation, /exit or Ctrl-D ends, Ctrl-C stops a reply."
# A model's text must not move the cursor or recolour the terminal.
CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if code not in (9, 10)}

Emit = Callable[[str], None]


class Talker(Protocol):
    """Something that answers."""

    @property
    def model(self) -> str:
        """The model's name."""

    def reply(self, messages: list[Message], emit: Emit) -> bool:
        """Write the answer to the last message piece by piece; False if it was merely continued
        as plain text. Raises `LmrunError`; an interrupt aborts the request."""


@dataclass(frozen=True)
class ServerTalker:
    """Over HTTP."""

    api: Api
    sampling: Sampling

    @property
    def model(self) -> str:
        """Name in the API."""
        return self.api.model

    def reply(self, messages: list[Message], emit: Emit) -> bool:
        """See `Talker`. An interrupt cancels the task, which closes the stream."""

        async def run() -> bool:
            can_chat = True
            async with aclosing(write(self.api, messages, self.sampling)) as pieces:
                async for delta, is_completion in pieces:
                    can_chat = not is_completion
                    emit(delta.text)
            return can_chat

        return asyncio.run(run())


class EngineTalker:
    """With an engine in this process."""

    def __init__(self, overrides: list[str], sampling: Sampling) -> None:
        """Builds what is missing of the overrides' plan first."""
        composed = compose(overrides)
        with located(composed):
            plan = build(composed, Store(env.home()), show_plan=False)
        self.model = plan.served_name
        self._params = SamplingParams(
            temperature=sampling.temperature, max_tokens=sampling.max_tokens
        )
        self._llm = LLM(plan.engine, template=plan.chat_template)

    def reply(self, messages: list[Message], emit: Emit) -> bool:
        """See `Talker`."""
        can_chat = self._llm.template is not None
        turns = [{"role": part.role, "content": part.content} for part in messages]
        prompt = self._llm.chat_token_ids(turns) if can_chat else messages[-1].content
        for text in self._llm.stream(prompt, self._params):
            emit(text)
        return can_chat


def run(argv: list[str]) -> ExitStatus:
    """Talk until the end of the input: with `--url`, or with the engine that overrides describe."""
    given, overrides = flags.split(argv, FLAGS)
    sampling = Sampling(temperature=_temperature(given), max_tokens=_max_tokens(given))
    if "--url" in given and overrides:
        raise UsageError(
            f"chat: --url and {overrides[0]} exclude each other. The server has its own settings."
        )
    talker: Talker
    if overrides:
        if "--api-key" in given:
            raise UsageError("--api-key: only a server asks for one. Give --url too.")
        talker = EngineTalker(overrides, sampling)
    else:
        talker = ServerTalker(_server(given), sampling)
    system = [Message("system", given["--system"])] if given.get("--system") else []
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    Conversation(talker, system, is_terminal=is_terminal).run()
    return ExitStatus.OK


def _server(given: dict[str, str]) -> Api:
    """The API at `--url`, asked for its model."""
    url = given.get("--url", f"http://{FrontendConfig().host}:{FrontendConfig().port}")
    server_flags.check_url(url)
    key = server_flags.key_of(given)
    api = Api(url.rstrip("/").removesuffix("/v1"), "", key)
    models = asyncio.run(api.models())
    if not models:
        raise UsageError(f"{url}: serves no model.")
    return Api(api.base_url, models[0], key)


def _temperature(given: dict[str, str]) -> float:
    try:
        value = float(given.get("--temperature", TEMPERATURE))
    except ValueError:
        value = -1
    if not 0 <= value <= 2:
        raise UsageError(
            f"--temperature: expected a number from 0 to 2, got {given['--temperature']!r}."
        )
    return value


def _max_tokens(given: dict[str, str]) -> int:
    text = given.get("--max-tokens", str(MAX_TOKENS))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
        raise UsageError(f"--max-tokens: expected a whole number of at least 1, got {text!r}.")
    return int(text)


class Conversation:
    """What was said so far, and how it goes on."""

    def __init__(self, talker: Talker, system: list[Message], *, is_terminal: bool) -> None:
        self._talker = talker
        self._system = system
        self._is_terminal = is_terminal
        self._history: list[Message] = []
        self._has_noted = False

    def run(self) -> None:
        """Answer line after line. Piped, an error ends it; at a terminal it is shown."""
        if self._is_terminal:
            _note(f"{self._talker.model}. {HELP}")
        for line in _lines(self._is_terminal):
            text = line.strip()
            if text == "/exit":
                return
            if text == "/reset":
                self._history = []
                _note("The conversation is forgotten.")
            elif text:
                try:
                    self._say(text)
                except LmrunError as error:
                    if not self._is_terminal:
                        raise
                    _note(f"lmrun: {error}")

    def _say(self, text: str) -> None:
        turns = [*self._history, Message("user", text)]
        parts: list[str] = []

        def emit(piece: str) -> None:
            parts.append(piece)
            sys.stdout.write(piece.translate(CONTROLS) if self._is_terminal else piece)
            sys.stdout.flush()

        try:
            can_chat = self._talker.reply([*self._system, *turns], emit)
        except KeyboardInterrupt:
            if not self._is_terminal:
                raise
            can_chat = True
            _note(" (stopped)")
        else:
            sys.stdout.write("\n")
            sys.stdout.flush()
        if not can_chat and not self._has_noted:
            self._has_noted = True
            _note(NO_TEMPLATE)
        self._history = [*turns, Message("assistant", "".join(parts))]


def _lines(is_terminal: bool) -> Iterator[str]:
    """Lines of stdin up to its end; Ctrl-C at the prompt clears the line."""
    if not is_terminal:
        yield from sys.stdin
        return
    while True:
        try:
            yield input("> ")
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            _note("\n(/exit or Ctrl-D ends)")


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
