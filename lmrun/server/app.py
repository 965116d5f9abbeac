"""The HTTP application: routes, keys, error envelopes."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

import lmrun
from lmrun import log
from lmrun.engine.client import ClientState, EngineClient
from lmrun.engine.launch import setting_differences
from lmrun.errors import EngineError
from lmrun.models.chat_template import ChatTemplate
from lmrun.models.tokenizer import Tokenizer
from lmrun.server import tokenizing
from lmrun.server.bodies import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from lmrun.server.chat import chat
from lmrun.server.completions import complete
from lmrun.server.errors import ApiError, engine_down
from lmrun.server.service import Service
from lmrun.server.settings import ServerSettings

logger = log.get(__name__)

_CONFIG_TIMEOUT_S = 5.0
_CLIENT_LEFT = 499


def create_app(
    settings: ServerSettings,
    client: EngineClient,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
) -> FastAPI:
    """The application; ``app.state.service`` is its `Service`.

    The client need not be connected: the application connects it while it starts, and is not
    ready until then. ``template`` None: chat is refused.
    """
    service = Service(settings, client, tokenizer, template)
    app = FastAPI(
        title="lmrun",
        version=lmrun.__version__,
        docs_url=None,  # the page loads its scripts from another host
        redoc_url=None,
        lifespan=lambda _: _lifespan(service),
    )
    app.state.service = service
    app.add_middleware(_KeyCheck, keys=settings.api_keys)
    _add_v1(app, service)
    _add_tokenizer(app, service)
    _add_operations(app, service)

    @app.exception_handler(ApiError)
    async def refuse(request: Request, error: ApiError) -> Response:
        if request.method == "POST":
            service.metrics.requests.labels("refused").inc()
        return error.response()

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_CLIENT_LEFT)  # while it sent its body: nobody reads this

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}."
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        headers = dict(error.headers or {})
        return ApiError(error.status_code, message, code=code, headers=headers).response()

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        message = f"server: internal error: {type(error).__name__}. The log has the traceback."
        return ApiError(500, message, code="internal_error").response()

    return app


def _add_v1(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions", openapi_extra=_body_schema(ChatBody))
    async def chat_completions(request: Request) -> Response:
        return await chat(service, request)

    @app.post("/v1/completions", openapi_extra=_body_schema(CompletionBody))
    async def completions(request: Request) -> Response:
        return await complete(service, request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(service)]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return _model(service)


def _add_tokenizer(app: FastAPI, service: Service) -> None:
    @app.post("/tokenize", openapi_extra=_body_schema(TokenizeBody))
    async def tokenize(request: Request) -> dict[str, Any]:
        return await tokenizing.tokenize(service, request)

    @app.post("/detokenize", openapi_extra=_body_schema(DetokenizeBody))
    async def detokenize(request: Request) -> dict[str, Any]:
        return await tokenizing.detokenize(service, request)

    @app.get("/tokenizer_info")
    async def tokenizer_info() -> dict[str, Any]:
        return tokenizing.tokenizer_info(service)


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health")  # where clients of vLLM look
    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        if (reason := service.not_ready) is not None:
            raise ApiError(503, f"not ready: {reason}.", code="not_ready")
        return {"status": "ready", "model": service.settings.served_name}

    @app.get("/metrics")
    async def metrics() -> Response:
        await service.fresh_stats()
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/config")
    async def config() -> JSONResponse:
        return JSONResponse(await _config(service))


async def _config(service: Service) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_CONFIG_TIMEOUT_S):
            effective = await service.client.effective_config()
    except (EngineError, TimeoutError) as error:
        raise engine_down(service.client.reason or "no answer") from error
    settings = service.settings
    differences = setting_differences(settings.planned, effective)
    template = service.template
    return {
        "engine": effective.settings,
        "engine_build": effective.engine_build,
        "planned": asdict(settings.planned),
        "differences": {
            name: {"planned": planned, "in_force": in_force}
            for name, (planned, in_force) in differences.items()
        },
        "server": {
            "version": lmrun.__version__,
            "served_name": settings.served_name,
            "chat_template": None if template is None else template.origin,
            "drain_s": settings.drain_s,
            "max_waiting": settings.max_waiting,
            "max_body_bytes": settings.max_body_bytes,
            "asks_for_key": bool(settings.api_keys),
        },
    }


def _model(service: Service) -> dict[str, Any]:
    return {
        "id": service.settings.served_name,
        "object": "model",
        "created": service.created,
        "owned_by": "lmrun",
        "max_model_len": service.settings.planned.context_length,
    }


def _body_schema(kind: type[BaseModel]) -> dict[str, Any]:
    schema = kind.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@contextlib.asynccontextmanager
async def _lifespan(service: Service) -> AsyncIterator[None]:
    for name in service.tokenizer.defaults.not_applied:
        logger.warning("generation_config.json: %s is not built yet and not applied", name)
    connecting = asyncio.create_task(_connect(service.client))
    try:
        yield
    finally:
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await connecting
        await service.client.close("the server is stopping")


async def _connect(client: EngineClient) -> None:
    while client.state is ClientState.connecting:
        try:
            await client.connect()
        except EngineError as error:
            logger.warning("%s", error)
            await asyncio.sleep(1)


class _KeyCheck:
    """401 on /v1 and the tokenizer without one of the keys; with none, everybody may come in."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and self._keys
            and scope["path"].startswith(("/v1", *tokenizing.PATHS))
            and not self._is_known(dict(scope["headers"]).get(b"authorization", b""))
        ):
            error = ApiError(
                401,
                "Authorization: expected `Bearer KEY` with a key of this server.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await error.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_known(self, header: bytes) -> bool:
        scheme, _, given = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        return any(hmac.compare_digest(given.strip(), key) for key in self._keys)
