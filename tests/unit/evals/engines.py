"""An engine for a workspace."""

from dataclasses import replace
from pathlib import Path

from lmrun.engine.llm import LLM, settings_for


def engine(workspace: Path, kv_bits: int = 16, **changes: int) -> LLM:
    """An engine of one thread in this process."""
    return LLM(replace(settings_for(workspace, kv_bits=kv_bits, threads=1), **changes))
