"""The server process: `python -m lmrun.server`, its `ServerSettings` on the first line of stdin.

The first SIGTERM or SIGINT drains: not ready at once, running requests finish within ``drain_s``,
exit status 0. The same signal again stops now.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from lmrun import log
from lmrun.engine.client import EngineClient
from lmrun.engine.process import die_with_parent
from lmrun.errors import ExitStatus, LmrunError, StageError
from lmrun.models import chat_template
from lmrun.models.tokenizer import Tokenizer
from lmrun.server.app import create_app
from lmrun.server.service import Service
from lmrun.server.settings import ServerSettings

logger = log.get("lmrun.server")  # __name__ is __main__ here

_LAST_WORDS_S = 2
_BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """uvicorn with lmrun's way to stop: it keeps answering (503) while running requests end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._seen: set[signal.Signals] = set()
        self._drain: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called by uvicorn, in the event loop, around its whole life."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        yield

    def _on_signal(self, number: signal.Signals) -> None:
        # Ctrl-C reaches the whole process group and the supervisor passes SIGTERM on: two
        # different signals are one wish
        if number in self._seen:
            logger.warning("%s again: stopping now", number.name)
            self.should_exit = self.force_exit = True
            return
        self._seen.add(number)
        if self._drain is None:
            logger.info("%s: draining for at most %g s", number.name, self._drain_s)
            self._service.drain()
            self._drain = asyncio.create_task(self._finish())

    @property
    def _drain_s(self) -> float:
        return self._service.settings.drain_s

    async def _finish(self) -> None:
        if not await self._service.wait_idle(self._drain_s):
            logger.warning("requests still run after %g s: ending them", self._drain_s)
            await self._service.client.close("the server is stopping")
            await self._service.wait_idle(_LAST_WORDS_S)
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; `StageError` names the address when that fails."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StageError(f"frontend.host={host}: {error.strerror}.") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StageError(
            f"frontend.port={port}: cannot listen on {host}:{port}: {error.strerror}."
        ) from error
    return listener


def run(settings: ServerSettings) -> None:
    """Serve until stopped."""
    folder = Path(settings.tokenizer_folder)
    app = create_app(
        settings,
        EngineClient(Path(settings.engine_socket), hang_timeout_s=settings.hang_timeout_s),
        Tokenizer.from_folder(folder),
        chat_template.load(settings.chat_template, folder),
    )
    listener = bind(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=_LAST_WORDS_S,
    )
    server = DrainingServer(config, app.state.service)
    logger.info("listening on http://%s:%d", settings.host, settings.port)
    asyncio.run(server.serve(sockets=[listener]))


def main() -> int:
    """Entry point; returns the exit status."""
    try:
        die_with_parent(None)
        log.setup()
        settings = ServerSettings.from_json(sys.stdin.readline())
        die_with_parent(settings.parent_pid)
        run(settings)
    except LmrunError as error:
        logger.error("%s", error)
        return int(ExitStatus.STAGE_FAILED if error.status is ExitStatus.BUG else error.status)
    return int(ExitStatus.OK)


if __name__ == "__main__":
    raise SystemExit(main())
