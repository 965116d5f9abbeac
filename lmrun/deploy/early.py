"""Engine and server, started before anybody knows what they will serve.

Most of a start is importing. Both read their settings from stdin, so they import beside the
supervisor, while that imports, composes and plans.
"""

import os
import shutil
import tempfile
from pathlib import Path

from lmrun.deploy.process import Child, Children

SOCKET_NAME = "engine.sock"
SOCKET_PATH_BYTES = 107
"""What Linux allows for the path of a unix socket."""
_MODULES = {"engine": "lmrun.engine.worker", "server": "lmrun.server"}


class Early:
    """The serving children of a deployment, and the private folder of their socket.

    An async context: at its end every child of ``children`` is killed and the folder removed.
    """

    def __init__(self) -> None:
        self.children = Children()
        self._folder = socket_folder()
        self._waiting: dict[str, Child] = {}

    @property
    def socket_path(self) -> Path:
        """Where the engine listens."""
        return self._folder / SOCKET_NAME

    async def __aenter__(self) -> "Early":
        for name in _MODULES:
            self._waiting[name] = await self._start(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.children.kill_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def take(self, name: str) -> Child:
        """The child, whose settings are still to be given; one that waits, or else a new one."""
        child = self._waiting.pop(name, None)
        return child if child is not None and child.alive else await self._start(name)

    async def drop(self) -> None:
        """End those that wait: stages take a while, and memory."""
        waiting, self._waiting = self._waiting, {}
        for child in waiting.values():
            child.kill_group()
        for child in waiting.values():
            await child.wait()

    async def _start(self, name: str) -> Child:
        arguments = ("--socket", str(self.socket_path)) if name == "engine" else ()
        return await self.children.start(name, _MODULES[name], arguments=arguments)


def socket_folder() -> Path:
    """A new private folder (0700) for sockets: in the temporary directory, or in /tmp where its
    path is too long for one."""
    longest = Path(tempfile.gettempdir()) / "lmrun-12345678" / SOCKET_NAME
    fits = len(os.fsencode(longest)) <= SOCKET_PATH_BYTES
    return Path(tempfile.mkdtemp(prefix="lmrun-", dir=None if fits else "/tmp"))
