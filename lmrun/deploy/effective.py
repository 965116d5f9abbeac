"""Whether the engine runs with the settings that the plan gave it."""

from lmrun.engine.launch import setting_differences
from lmrun.engine.messages import EffectiveConfig
from lmrun.errors import EngineError
from lmrun.plan.engine_settings import EngineSettings


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
