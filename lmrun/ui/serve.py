"""Serving the page: a web server that keeps the browser to this machine."""

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmrun.ui.page import STYLE, build
from lmrun.ui.settings import PageSettings

# Gradio's page runs scripts and styles written into it; nothing may come from elsewhere, which
# also covers pictures that a model's text asks for.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:;"
    " worker-src 'self' blob:; frame-ancestors 'self'"
)


class LocalOnly:
    """Adds the content security policy to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on; the policy goes into the head of the answer."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await self._app(scope, receive, send_with_policy)


def make_app(settings: PageSettings) -> FastAPI:
    """The web application of the page."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(LocalOnly)
    font = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "Consolas", "monospace")
    gr.mount_gradio_app(
        app,
        build(settings).queue(default_concurrency_limit=None),
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        ssr_mode=False,
        footer_links=[],
        theme=gr.themes.Soft(font=font, font_mono=mono, primary_hue="indigo").set(
            block_title_background_fill="none",
            block_title_background_fill_dark="none",
            block_title_text_color="*body_text_color",
            block_title_text_color_dark="*body_text_color",
            block_title_text_weight="500",
            block_title_padding="0",
        ),
        css_paths=STYLE,
    )
    return app


def serve(settings: PageSettings) -> None:
    """Serve the page until SIGTERM."""
    uvicorn.run(
        make_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
