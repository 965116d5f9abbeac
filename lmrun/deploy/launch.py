"""Starting the three children that serve: engine, server, page."""

import asyncio
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from lmrun import events
from lmrun.deploy import announce, effective
from lmrun.deploy.process import Child, Children
from lmrun.deploy.stopping import Stop
from lmrun.plan.plan import Plan
from lmrun.server.settings import ServerSettings
from lmrun.ui.settings import PageSettings

POLL_S = 0.1
SOCKET_NAME = "engine.sock"
SOCKET_PATH_BYTES = 107
"""What Linux allows for the path of a unix socket."""


@dataclass(frozen=True)
class Launcher:
    """What every launch of a deployment needs. `folder` is private to it and holds the socket."""

    children: Children
    stop: Stop
    folder: Path
    api_keys: tuple[str, ...]

    @property
    def socket_path(self) -> Path:
        """Where the engine listens."""
        return self.folder / SOCKET_NAME

    async def engine(self, plan: Plan) -> Child:
        """The engine after its first token, its settings compared with the plan's.

        Raises `StageError` if it ends, `EngineError` if a setting was lost or changed.
        """
        document = json.dumps(asdict(plan.engine)).encode() + b"\n"
        self.socket_path.unlink(missing_ok=True)
        arguments = ("--socket", str(self.socket_path))
        child = await self.children.spawn(
            "engine", "lmrun.engine.worker", document, arguments=arguments
        )
        events.emit(events.EngineLaunched(child.pid))
        in_force = await self.stop.or_end_of(effective.read(self.socket_path), child)
        effective.check(plan.engine, in_force)
        return child

    async def server(self, plan: Plan, engine: Child) -> Child:
        """The server once it says ready; `StageError` if it or its engine ends."""
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
        child = await self.children.spawn("server", "lmrun.server", document)
        url = announce.base_url(plan.frontend.host, plan.frontend.port)
        await self.stop.or_end_of(_answers(f"{url}/health/ready"), child, engine)
        return child

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
        url = announce.base_url(plan.frontend.host, plan.frontend.ui_port)
        await self.stop.or_end_of(_answers(f"{url}/"), child)
        return url


def socket_folder() -> Path:
    """A new private folder (0700) for sockets: in the temporary directory, or in /tmp where its
    path is too long for one."""
    longest = Path(tempfile.gettempdir()) / "lmrun-12345678" / SOCKET_NAME
    fits = len(os.fsencode(longest)) <= SOCKET_PATH_BYTES
    return Path(tempfile.mkdtemp(prefix="lmrun-", dir=None if fits else "/tmp"))


async def _answers(url: str) -> None:
    """Wait until the URL answers with success."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(url, timeout=5.0)).is_success:
                    return
            except httpx.HTTPError:
                pass  # not there yet
            await asyncio.sleep(POLL_S)
