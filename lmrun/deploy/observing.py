"""Keeps what a running deployment shows of memory and speed, for later plans.

The engine is asked on a connection of its own. Nothing here can fail a deployment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from lmrun import log
from lmrun.artifacts.measurements import observation_key, record_observation
from lmrun.engine import wire
from lmrun.engine.messages import Ask, EffectiveConfig, Event, Memory, Ready, Stats
from lmrun.engine.observing import BestRates, observation
from lmrun.errors import LmrunError
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.machine import this_machine

logger = log.get(__name__)

LOOK_EVERY_S = 5.0
"""Length of the stretches, the best of which counts."""
RECORD_EVERY_S = 60.0
"""A deployment that is killed loses no more than this."""
PATIENCE_S = 5.0
"""How long an engine may take to answer: the step it is in comes first."""

_Kind = TypeVar("_Kind", bound=Event)


class Recorder:
    """Looks at the engine behind a socket, and records what it showed in the store's folder."""

    def __init__(self, planned: EngineSettings, socket_path: Path, home: Path) -> None:
        self._planned = planned
        self._socket_path = socket_path
        self._home = home
        self._rates = BestRates()

    async def run(self) -> None:
        """Look every few seconds, record every minute, until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            looks += 1
            if looks * LOOK_EVERY_S % RECORD_EVERY_S == 0:
                await self.record()
            else:
                await self._look()

    async def record(self) -> None:
        """Ask the engine and keep its answers; one that computed nothing is not worth a line."""
        try:
            stats, memory, effective = await asyncio.wait_for(_ask(self._socket_path), PATIENCE_S)
            self._rates.add(stats)
            if stats.decode.steps == 0 and stats.prefill.steps == 0:
                return
            key = observation_key(self._home, asdict(self._planned), this_machine().identity)
            seen = observation(key, effective.engine_build, stats, memory, self._rates)
            await asyncio.to_thread(record_observation, self._home, seen)
        except (LmrunError, OSError, TimeoutError) as error:
            logger.warning("what this run showed was not recorded: %s", error)

    async def _look(self) -> None:
        try:
            self._rates.add(await asyncio.wait_for(_ask_stats(self._socket_path), PATIENCE_S))
        except (LmrunError, OSError, TimeoutError) as error:
            logger.debug("the engine was not looked at: %s", error)


async def _ask_stats(socket_path: Path) -> Stats:
    async with _connected(socket_path) as (reader, writer):
        writer.write(wire.pack(Ask(what="stats")))
        return await _next(reader, Stats)


async def _ask(socket_path: Path) -> tuple[Stats, Memory, EffectiveConfig]:
    async with _connected(socket_path) as (reader, writer):
        writer.write(wire.pack(Ask(what="stats")))
        stats = await _next(reader, Stats)
        writer.write(wire.pack(Ask(what="memory")))
        memory = await _next(reader, Memory)
        writer.write(wire.pack(Ask(what="effective_config")))
        return stats, memory, await _next(reader, EffectiveConfig)


@asynccontextmanager
async def _connected(
    socket_path: Path,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    try:
        await _next(reader, Ready)
        yield reader, writer
    finally:
        writer.close()


async def _next(reader: asyncio.StreamReader, kind: type[_Kind]) -> _Kind:
    body = await wire.read_frame_async(reader)
    event = None if body is None else wire.unpack_event(body)
    if not isinstance(event, kind):
        raise ConnectionError(f"the engine was asked for {kind.__name__} and did not say it")
    return event
