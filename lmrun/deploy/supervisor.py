"""`lmrun up`: the foreground process that builds, launches, watches and stops a deployment."""

import asyncio
import ipaddress
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from lmrun import events, log
from lmrun.artifacts.store import Artifact, Store
from lmrun.config import Composed
from lmrun.config.secrets import resolve
from lmrun.deploy import announce, ports, record
from lmrun.deploy.building import ALL, Builder, show
from lmrun.deploy.early import Early
from lmrun.deploy.launch import Launcher
from lmrun.deploy.locking import Locked
from lmrun.deploy.observing import Recorder
from lmrun.deploy.process import Child
from lmrun.deploy.stopping import Stop, StoppedError, cancel
from lmrun.errors import ExitStatus, StageError
from lmrun.models.text_files import check_text_files
from lmrun.plan.plan import FrontendSettings, Plan

logger = log.get(__name__)

ENGINE_GRACE_S = 5.0
UI_GRACE_S = 3.0
DRAIN_SLACK_S = 5.0
"""What a draining server gets beyond frontend.drain_s to say its last words."""
FORCED_GRACE_S = 1.0


@dataclass(frozen=True)
class UpOptions:
    """Flags of `lmrun up`."""

    verify_first: bool = False
    """Hash the artifacts before the launch, not after ready."""
    locked: Locked | None = None
    """Refuse anything else than this lock says."""
    results: Path | None = None
    """File that gets what the quality gate found, as JUnit XML."""


@dataclass
class _Running:
    """The children of a launched deployment."""

    engine: Child
    server: Child
    ui: Child | None = None
    reported: set[str] = field(default_factory=set)
    """Names of the children whose end was logged."""


class Supervisor:
    """One deployment, from plan to exit status. Runs on the main thread, once."""

    def __init__(self, composed: Composed, store: Store, options: UpOptions, early: Early) -> None:
        self._composed = composed
        self._store = store
        self._options = options
        self._early = early
        self._stop = Stop()
        self._builder = Builder(composed, store, early.children, self._stop, options.locked)
        self._damaged: asyncio.Queue[str] = asyncio.Queue()
        self._has_been_ready = False
        self._recorder: Recorder | None = None

    async def run(self) -> ExitStatus:
        """Deploy, and stay until a signal or the end of the server."""
        self._stop.listen()
        try:
            keys = tuple(resolve(key) for key in self._composed.run.frontend.api_keys)
            launcher = Launcher(self._early.children, self._stop, self._early, keys)
            return await self._deploy(launcher)
        except StoppedError:
            return ExitStatus.OK if self._has_been_ready else ExitStatus.INTERRUPTED

    async def _deploy(self, launcher: Launcher) -> ExitStatus:
        plan = self._builder.plan()
        _preflight(plan)
        show(plan)
        if self._options.verify_first:
            plan = await self._builder.verified(plan)
        cached = self._builder.cached(plan)
        if plan.missing:
            await self._early.drop()
        plan = await self._builder.built(plan, ALL)
        self._builder.check_gate(plan, self._options.results)
        with record.serving(plan, self._store):
            plan = await self._builder.still_built(plan)
            return await self._serve(plan, cached, launcher)

    async def _serve(self, plan: Plan, cached: list[Artifact], launcher: Launcher) -> ExitStatus:
        running = await self._launched(plan, launcher)
        keys = self._composed.run.frontend.api_keys
        _say(announce.ready_text(plan, key_reference=keys[0] if keys else None))
        if not self._options.verify_first:
            self._verify_in_background(plan, cached)
        if plan.frontend.ui == "gradio":
            running.ui = await launcher.ui(plan)
            await self._introduce_ui(plan, launcher, running.ui)
        self._recorder = Recorder(plan.engine, launcher.socket_path, self._store.home)
        recording = asyncio.create_task(self._recorder.run())
        try:
            return await self._watch(plan, launcher, running)
        finally:
            await cancel(recording)

    async def _launched(self, plan: Plan, launcher: Launcher) -> _Running:
        started = time.monotonic()
        server = await launcher.server(plan)
        engine = await launcher.engine(plan)
        await launcher.server_answers(plan, server, engine)
        self._has_been_ready = True
        seconds = time.monotonic() - started
        url = announce.base_url(plan.frontend.host, plan.frontend.port)
        events.emit(events.Ready(url, plan.served_name, round(seconds, 3)))
        logger.info("ready, %.1f s after the launch of the engine", seconds)
        return _Running(engine, server)

    async def _introduce_ui(self, plan: Plan, launcher: Launcher, ui: Child) -> None:
        try:
            url = await launcher.ui_answers(plan, ui)
        except StageError:
            return  # `_watch` reports its end; the API stays
        except StoppedError:
            return  # `_watch` drains
        _say(f"page   {url}")
        events.emit(events.PageReady(url))
        if launcher.api_keys and not _is_loopback(plan.frontend):
            logger.warning("frontend.ui: the page at %s uses an API key for whoever opens it", url)

    def _verify_in_background(self, plan: Plan, cached: list[Artifact]) -> None:
        loop = asyncio.get_running_loop()

        def damaged(artifact: Artifact, problem: str) -> None:
            if artifact.path == plan.workspace:
                loop.call_soon_threadsafe(self._damaged.put_nowait, problem)

        self._store.verify_in_background(cached, damaged)

    async def _watch(self, plan: Plan, launcher: Launcher, running: _Running) -> ExitStatus:
        """Stay until a signal, or until the server ends."""
        while True:
            waits = {
                "stop": asyncio.create_task(self._stop.asked.wait()),
                "damaged": asyncio.create_task(self._damaged.get()),
                "server": asyncio.create_task(running.server.wait()),
            }
            for child in (running.engine, running.ui):
                if child is not None and child.name not in running.reported:
                    waits[child.name] = asyncio.create_task(child.wait())
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
            done = {name for name, task in waits.items() if task.done()}
            await cancel(*waits.values())
            if "stop" in done:
                return await self._stopped(plan, running)
            if "server" in done:
                raise StageError(f"deployment: {running.server.describe_end()}.")
            if "damaged" in done:
                await self._rebuilt(launcher, running)
            else:
                _report(running, done)

    async def _rebuilt(self, launcher: Launcher, running: _Running) -> None:
        """Replace a workspace whose bytes are wrong, and what runs on it.

        Without its engine the server answers 503 while the workspace is rebuilt.
        """
        logger.error("the workspace in use is damaged: not ready while it is rebuilt")
        await running.engine.stop(ENGINE_GRACE_S)
        plan = await self._builder.built(self._builder.plan())
        await running.server.stop(FORCED_GRACE_S)
        fresh = await self._launched(plan, launcher)
        running.engine, running.server = fresh.engine, fresh.server
        running.reported.discard("engine")

    async def _stopped(self, plan: Plan, running: _Running) -> ExitStatus:
        """Drain the server, then stop the page and the engine."""
        engine_lived = running.engine.alive
        events.emit(events.Draining(plan.frontend.drain_s))
        running.server.send(signal.SIGTERM)
        urgent = asyncio.create_task(self._stop.now.wait())
        drained = asyncio.create_task(running.server.wait())
        await asyncio.wait(
            {urgent, drained},
            timeout=plan.frontend.drain_s + DRAIN_SLACK_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        in_time = drained.done()
        await cancel(urgent, drained)
        running.server.kill_group()
        if in_time and engine_lived and self._recorder is not None:
            await self._recorder.record()
        for child, grace_s in ((running.ui, UI_GRACE_S), (running.engine, ENGINE_GRACE_S)):
            if child is not None:
                await child.stop(grace_s if in_time else FORCED_GRACE_S)
        events.emit(events.Stopped(in_time))
        if not in_time:
            logger.warning("stopped before the running requests ended")
            return ExitStatus.INTERRUPTED
        return ExitStatus.OK if engine_lived else ExitStatus.STAGE_FAILED


def _report(running: _Running, done: set[str]) -> None:
    running.reported |= done
    for child in (running.engine, running.ui):
        if child is not None and child.name in done:
            events.emit(events.ChildEnded(child.name, child.describe_end()))
    if "engine" in done:
        logger.error(
            "%s. The API answers 503; stop and start the deployment to serve again",
            running.engine.describe_end(),
        )
    if running.ui is not None and "ui" in done:
        logger.error("%s. The API stays", running.ui.describe_end())


def _preflight(plan: Plan) -> None:
    """Refuse now what would fail after the build."""
    frontend = plan.frontend
    ports.check("frontend.port", frontend.host, frontend.port)
    if frontend.ui != "none":
        ports.check("frontend.ui_port", frontend.host, frontend.ui_port, (frontend.port,))
    check_text_files(plan.text_folder, plan.chat_template)


def _is_loopback(frontend: FrontendSettings) -> bool:
    try:
        return ipaddress.ip_address(frontend.host).is_loopback
    except ValueError:
        return frontend.host == "localhost"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
