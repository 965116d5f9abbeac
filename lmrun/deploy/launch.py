"""Starting the three children that serve: engine, server, page."""

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lmrun import events
from lmrun.deploy import announce, effective, ports
from lmrun.deploy.early import Early
from lmrun.deploy.process import Child, Children
from lmrun.deploy.stopping import Stop
from lmrun.plan.plan import Plan
from lmrun.server.settings import ServerSettings
from lmrun.ui.settings import PageSettings

POLL_S = 0.02
ANSWER_S = 5.0


@dataclass(frozen=True)
class Launcher:
    """What every launch of a deployment needs."""

    children: Children
    stop: Stop
    early: Early
    api_keys: tuple[str, ...]

    @property
    def socket_path(self) -> Path:
        """Where the engine listens."""
        return self.early.socket_path

    async def engine(self, plan: Plan) -> Child:
        """The engine after its first token, its settings compared with the plan's.

        Raises `StageError` if it ends, `EngineError` if a setting was lost or changed.
        """
        document = json.dumps(asdict(plan.engine)).encode() + b"\n"
        self.socket_path.unlink(missing_ok=True)
        child = await self.early.take("engine")
        await child.give(document)
        events.emit(events.EngineLaunched(child.pid))
        in_force = await self.stop.or_end_of(effective.read(self.socket_path), child)
        effective.check(plan.engine, in_force)
        return child

    async def server(self, plan: Plan) -> Child:
        """The server, just started: it says ready when it has found its engine."""
        settings = ServerSettings(
            host=plan.frontend.host,
            port=plan.frontend.port,
            served_name=plan.served_name,
            engine_socket=str(self.socket_path),
            tokenizer_folder=plan.engine.workspace,
            planned=plan.engine,
            chat_template=plan.chat_template,
            drain_s=plan.frontend.drain_s,
            api_keys=self.api_keys,
        )
        document = settings.to_json().encode() + b"\n"
        child = await self.early.take("server")
        await child.give(document)
        return child

    async def server_answers(self, plan: Plan, server: Child, engine: Child) -> None:
        """Return when the server says ready; `StageError` if it or its engine ends."""
        host, port = ports.reachable(plan.frontend.host), plan.frontend.port
        await self.stop.or_end_of(_answers(host, port, "/health/ready"), server, engine)

    async def ui(self, plan: Plan) -> Child:
        """The page's process, just started."""
        frontend = plan.frontend
        settings = PageSettings(
            base_url=announce.base_url(frontend.host, frontend.port),
            model=plan.served_name,
            host=frontend.host,
            port=frontend.ui_port,
            api_key=self.api_keys[0] if self.api_keys else None,
        )
        return await self.children.spawn("ui", "lmrun.ui", settings.to_json())

    async def ui_answers(self, plan: Plan, child: Child) -> str:
        """The page's URL once it answers; `StageError` if the process ends."""
        host, port = ports.reachable(plan.frontend.host), plan.frontend.ui_port
        await self.stop.or_end_of(_answers(host, port, "/"), child)
        return announce.base_url(plan.frontend.host, port)


async def _answers(host: str, port: int, path: str) -> None:
    """Wait until a GET is answered with success."""
    while not await _succeeds(host, port, path):
        await asyncio.sleep(POLL_S)


async def _succeeds(host: str, port: int, path: str) -> bool:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request.encode())
                status = (await reader.readline()).split()[1:2]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False  # not there yet
    return bool(status) and status[0].startswith(b"2")
