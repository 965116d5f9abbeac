"""What the page is started with."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class PageSettings:
    """One JSON document on stdin; a key is a secret and stands in no process list."""

    base_url: str
    """Of the API, without a path."""
    model: str
    host: str
    port: int
    api_key: str | None = None

    def to_json(self) -> bytes:
        """The document."""
        return json.dumps(self.__dict__).encode()

    @classmethod
    def from_json(cls, text: str) -> "PageSettings":
        """From the document; an unknown or missing field is a TypeError."""
        return cls(**json.loads(text))
