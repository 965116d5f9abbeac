"""Keeps what a running deployment shows of memory and speed, for later plans.

The engine is asked on a connection of its own. Nothing here can fail a deployment.
"""

import asyncio
from pathlib import Path
from typing import TypeVar

from lmrun import log
from lmrun.artifacts.measurements import record_observation
from lmrun.engine import wire
from lmrun.engine.messages import Ask, EffectiveConfig, Event, Memory, Ready, Stats
from lmrun.engine.observing import observation
from lmrun.errors import LmrunError
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.machine import this_machine

logger = log.get(__name__)

EVERY_S = 60.0
"""A deployment that is killed loses no more than this."""
PATIENCE_S = 5.0
"""How long an engine may take to answer: the step it is in comes first."""

_Kind = TypeVar("_Kind", bound=Event)


async def keep_recording(planned: EngineSettings, socket_path: Path, home: Path) -> None:
    """Record every minute, until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        await record(planned, socket_path, home)


async def record(planned: EngineSettings, socket_path: Path, home: Path) -> None:
    """Ask the engine and keep its answers; an engine that computed nothing is not worth a line."""
    try:
        stats, memory, effective = await asyncio.wait_for(_ask(socket_path), PATIENCE_S)
        if stats.decode.steps == 0 and stats.prefill.steps == 0:
            return
        seen = observation(
            home, planned, this_machine().identity, (stats, memory), effective.engine_build
        )
        await asyncio.to_thread(record_observation, home, seen)
    except (LmrunError, OSError, TimeoutError) as error:
        logger.warning("what this run showed was not recorded: %s", error)


async def _ask(socket_path: Path) -> tuple[Stats, Memory, EffectiveConfig]:
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    try:
        await _next(reader, Ready)
        writer.write(wire.pack(Ask(what="stats")))
        stats = await _next(reader, Stats)
        writer.write(wire.pack(Ask(what="memory")))
        memory = await _next(reader, Memory)
        writer.write(wire.pack(Ask(what="effective_config")))
        return stats, memory, await _next(reader, EffectiveConfig)
    finally:
        writer.close()


async def _next(reader: asyncio.StreamReader, kind: type[_Kind]) -> _Kind:
    body = await wire.read_frame_async(reader)
    event = None if body is None else wire.unpack_event(body)
    if not isinstance(event, kind):
        raise ConnectionError(f"the engine was asked for {kind.__name__} and did not say it")
    return event
