"""What the server process is told at its start."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lmrun.errors import ConfigError
from lmrun.plan.engine_settings import EngineSettings


@dataclass(frozen=True)
class ServerSettings:
    """One JSON document on the first line of stdin of `python -m lmrun.server`.

    Never on the command line or in the environment: it carries the API keys.
    """

    host: str
    port: int
    served_name: str
    engine_socket: str
    """Unix socket of the engine worker; it may appear later than the server."""
    tokenizer_folder: str
    """Folder with tokenizer.json and its companions: the workspace."""
    planned: EngineSettings
    """What the plan asked for; `/config` compares it with what is in force."""
    chat_template: str = "auto"
    drain_s: float = 30.0
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """The keys themselves, already resolved; empty: no key is asked for."""
    max_waiting: int = 256
    """Completions accepted beyond those that run; one more is refused with 429."""
    max_body_bytes: int = 8 * 2**20
    hang_timeout_s: float = 180.0
    """Silence of the engine, in seconds, after which it counts as dead; longer than any step."""
    parent_pid: int | None = None
    """The process the server dies with."""

    def to_json(self) -> str:
        """One line; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ServerSettings":
        """Raises `ConfigError` naming what is missing or unknown."""
        try:
            document: dict[str, Any] = json.loads(text)
            known = {f.name for f in fields(cls)}
            if unknown := sorted(set(document) - known):
                raise ConfigError(f"server settings: unknown {', '.join(unknown)}.")
            document["planned"] = EngineSettings(**document["planned"])
            document["api_keys"] = tuple(document.get("api_keys", ()))
            return cls(**document)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"server settings: expected one JSON line: {error}") from error
