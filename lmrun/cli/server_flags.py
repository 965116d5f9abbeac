"""`--url` and `--api-key`: a server that runs already."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from lmrun.config.secrets import is_reference, resolve
from lmrun.errors import UsageError

FLAGS: Mapping[str, bool] = {"--url": True, "--api-key": True}


def check_url(url: str) -> None:
    """Raise `UsageError` for what cannot be the address of a server."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that does not close, a port above 65535
        is_address = False
    if not is_address:
        raise UsageError(f"--url: expected an address such as http://127.0.0.1:23333, got {url!r}.")


def key_of(given: Mapping[str, str]) -> str | None:
    """The key that `--api-key` refers to; None where it is not given.

    Raises `UsageError` for a key itself, `ConfigError` for a reference that leads nowhere.
    """
    if "--api-key" not in given:
        return None
    if not is_reference(given["--api-key"]):
        raise UsageError(
            "--api-key: expected a reference, got a literal key, which would be seen in the process"
            " list. Put it in an environment variable and write '${oc.env:NAME}'."
        )
    return resolve(given["--api-key"])
