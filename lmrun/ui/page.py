"""The chat page: Gradio components and what they do."""

import html
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr

from lmrun.errors import RequestError
from lmrun.ui.api import Api, Message, Sampling
from lmrun.ui.replies import Progress, Replies
from lmrun.ui.settings import PageSettings

STYLE = Path(__file__).with_name("style.css")
# Returned by the browser at load: on a phone the settings start folded.
IS_WIDE = "() => [window.innerWidth > 800]"
NO_TEMPLATE_NOTE = (
    "This model has no chat template: each message is continued as plain text, on its own."
)
BUSY = "A reply is being written. Stop it, or wait for its end."
BAD_SEED = "Seed: expected a whole number or nothing, got {!r}."

History = list[dict[str, Any]]
Updates = tuple[Any, Any, Any, Any, Any]
"""Of box, send button, stop button, chat and notice."""


def build(settings: PageSettings) -> gr.Blocks:
    """The page, not yet served."""
    talk = _Talk(Replies(Api(settings.base_url, settings.model, settings.api_key)))
    page: gr.Blocks
    with gr.Blocks(title=f"{settings.model} · lmrun", analytics_enabled=False) as page:
        with gr.Row(elem_id="header"):
            gr.HTML(_header(settings), elem_id="name")
            new = gr.Button("New chat", elem_id="new", size="md")
        with gr.Row(elem_id="body"):
            with gr.Column(elem_id="talk"):
                chatbot = gr.Chatbot(
                    elem_id="chat",
                    show_label=False,
                    height=None,
                    buttons=["copy"],
                    feedback_options=None,
                    allow_tags=False,
                    placeholder=f"### {settings.model}\nWrite a message below to begin.",
                )
                notice = gr.HTML(elem_id="notice")
                with gr.Row(elem_id="entry"):
                    box = gr.Textbox(
                        elem_id="message",
                        show_label=False,
                        label="Message",
                        container=False,
                        placeholder="Write a message",
                        lines=1,
                        max_lines=6,
                        autofocus=True,
                    )
                    send = gr.Button("Send", elem_id="send", variant="primary")
                    stop = gr.Button("Stop", elem_id="stop", variant="stop", visible=False)
            with (
                gr.Column(elem_id="settings"),
                gr.Accordion("Settings", open=True) as folder,
            ):
                controls = _controls()
        wide = gr.Checkbox(value=True, visible=False)
        page.load(_unfold, wide, folder, js=IS_WIDE, show_progress="hidden")
        shown = [box, send, stop, chatbot, notice]
        sent = gr.on(
            [box.submit, send.click],
            talk.respond,
            [box, chatbot, *controls],
            shown,
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )
        stop.click(talk.stop, None, None, queue=False, api_visibility="private")
        new.click(talk.clear, None, shown, cancels=[sent], queue=False, api_visibility="private")
        page.unload(talk.stop)
    return page


def _header(settings: PageSettings) -> str:
    model, url = html.escape(settings.model), html.escape(settings.base_url)
    return f'<div class="title"><h1>{model}</h1><span>{url}</span></div>'


def _controls() -> list[gr.components.Component]:
    """Inputs of `_Talk.respond` after message and history, in its order."""
    return [
        gr.Textbox(label="System prompt", lines=2, max_lines=6, placeholder="none"),
        gr.Slider(0.0, 2.0, value=0.7, step=0.05, label="Temperature"),
        gr.Slider(0.05, 1.0, value=1.0, step=0.05, label="Top-p"),
        gr.Slider(0, 200, value=0, step=1, label="Top-k (0: all)"),
        gr.Slider(1, 4096, value=256, step=1, label="Max tokens"),
        gr.Textbox(label="Seed", lines=1, max_lines=1, placeholder="random"),
    ]


def _unfold(is_wide: bool) -> gr.Accordion:
    return gr.Accordion(open=is_wide)


class _Talk:
    """What the page's events do. A session is a browser tab."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    async def respond(  # noqa: PLR0913, PLR0917 - one parameter a component, as Gradio calls it
        self,
        text: str,
        history: History,
        system: str,
        temperature: float,
        top_p: float,
        top_k: float,
        max_tokens: float,
        seed: str,
        request: gr.Request,
    ) -> AsyncGenerator[Updates, None]:
        """Send the message and show the reply as it grows."""
        session = str(request.session_hash)
        if not text.strip():
            yield _show()
            return
        if self._replies.is_running(session):
            yield _show(notice=_notice(BUSY))
            return
        try:
            sampling = Sampling(
                temperature, top_p, int(top_k) or None, int(max_tokens), _seed(seed)
            )
        except ValueError:
            yield _show(notice=_notice(BAD_SEED.format(seed), error=True))
            return
        before, history = history, [*history, {"role": "user", "content": text}]
        yield _show(busy=True, text="", history=history, notice="")
        started = time.monotonic()
        progress = Progress()
        try:
            replies = self._replies.reply(session, _messages(system, history), sampling)
            async with aclosing(replies) as steps:
                async for progress in steps:
                    note = NO_TEMPLATE_NOTE if progress.completed else ""
                    yield _show(history=_with_reply(history, progress), notice=_notice(note))
        except RequestError as error:
            failed = _notice(str(error), error=True)
            if progress.text:
                yield _show(busy=False, history=_with_reply(history, progress), notice=failed)
            else:  # nothing came back: the message returns to the box, to be mended
                yield _show(busy=False, text=text, history=before, notice=failed)
            return
        summary = _notice(_summary(progress, time.monotonic() - started))
        yield _show(busy=False, history=_with_reply(history, progress), notice=summary)

    async def stop(self, request: gr.Request) -> None:
        """Abort the session's reply."""
        self._replies.stop(str(request.session_hash))

    async def clear(self, request: gr.Request) -> Updates:
        """Abort the reply and forget the chat."""
        self._replies.stop(str(request.session_hash))
        return _show(busy=False, history=[], notice="")


def _show(
    *,
    busy: bool | None = None,
    text: str | None = None,
    history: History | None = None,
    notice: str | None = None,
) -> Updates:
    """Updates of box, send, stop, chat and notice; None leaves one as it is."""
    return (
        gr.skip() if text is None else text,
        gr.skip() if busy is None else gr.Button(visible=not busy),
        gr.skip() if busy is None else gr.Button(visible=busy),
        gr.skip() if history is None else history,
        gr.skip() if notice is None else notice,
    )


def _seed(text: str) -> int | None:
    return int(text) if text.strip() else None


def _with_reply(history: History, progress: Progress) -> History:
    if not progress.text:
        return history
    return [*history, {"role": "assistant", "content": progress.text}]


def _notice(text: str = "", *, error: bool = False) -> str:
    if not text:
        return ""
    return f'<p class="{"error" if error else "info"}" role="status">{html.escape(text)}</p>'


def _messages(system: str, history: History) -> list[Message]:
    """The conversation in the API's form."""
    head = [Message("system", system.strip())] if system.strip() else []
    return [*head, *(Message(turn["role"], _text(turn["content"])) for turn in history)]


def _text(content: Any) -> str:  # noqa: ANN401 - Gradio hands back text or a list of parts
    """Text of a chat message as Gradio hands it back."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _summary(progress: Progress, seconds: float) -> str:
    """One line about a finished reply."""
    parts = []
    if progress.finish_reason == "abort":
        parts.append("Stopped.")
    elif progress.finish_reason == "length":
        parts.append("Cut at the token limit.")
    if progress.completion_tokens and seconds > 0:
        rate = progress.completion_tokens / seconds
        parts.append(f"{progress.completion_tokens} tokens, {rate:.1f} tokens/s.")
    if progress.completed:
        parts.append(NO_TEMPLATE_NOTE)
    return " ".join(parts)
