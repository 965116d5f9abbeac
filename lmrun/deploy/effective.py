"""Whether the engine runs with the settings that the plan gave it."""

import asyncio
from pathlib import Path

from lmrun.engine import wire
from lmrun.engine.launch import setting_differences
from lmrun.engine.messages import Ask, EffectiveConfig
from lmrun.errors import EngineError
from lmrun.plan.engine_settings import EngineSettings

POLL_S = 0.05
END_S = 2.0
"""For the end of a process that hung up to be noticed: it says more than its connection does."""


async def read(socket_path: Path) -> EffectiveConfig:
    """The settings in force, asked of a worker whose socket may appear later.

    Waits for the socket without end: race it with the end of the process.
    """
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(str(socket_path))
            break
        except OSError:
            await asyncio.sleep(POLL_S)
    try:
        writer.write(wire.pack(Ask(what="effective_config")))
        while (body := await wire.read_frame_async(reader)) is not None:
            event = wire.unpack_event(body)
            if isinstance(event, EffectiveConfig):
                return event
    except OSError as error:
        await asyncio.sleep(END_S)
        raise EngineError(f"engine: its connection broke: {error}.") from error
    finally:
        writer.close()
    await asyncio.sleep(END_S)
    raise EngineError("engine: it hung up before it said which settings are in force.")


def check(planned: EngineSettings, effective: EffectiveConfig) -> None:
    """Raise `EngineError`, naming each key, if the engine lost or changed a setting.

    An `auto` isa may have become any level.
    """
    wrong = [
        f"{name}={wanted} was planned, "
        + ("the engine does not know it" if got is None else f"{name}={got} is in force")
        for name, (wanted, got) in setting_differences(planned, effective).items()
    ]
    if wrong:
        raise EngineError(
            f"engine settings: {'; '.join(wrong)}. The deployment is not what was planned."
        )
