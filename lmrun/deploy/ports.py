"""Whether the ports of a deployment are free, asked before anything is built."""

import errno
import ipaddress
import socket

from lmrun.errors import PlanError

LAST_PORT = 65535


def check(key: str, host: str, port: int, taken: tuple[int, ...] = ()) -> None:
    """Raise `PlanError`, naming the next free port, if `host`:`port` cannot be listened on.

    `key` is the config key of the port; `taken` are ports this deployment uses itself.
    """
    if port not in taken and _is_free(host, port):
        return
    free = next_free(host, port, taken)
    advice = f"The next free port: {key}={free}." if free else "No higher port is free."
    raise PlanError(f"{key}={port}: port {port} of {host} is in use. {advice}")


def next_free(host: str, port: int, taken: tuple[int, ...] = ()) -> int | None:
    """The first free port above `port`, or None."""
    for candidate in range(port + 1, LAST_PORT + 1):
        if candidate not in taken and _is_free(host, candidate):
            return candidate
    return None


def _is_free(host: str, port: int) -> bool:
    for family, kind, _, _, address in _addresses(host, port):
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(address)
                listener.listen(1)
            except PermissionError:
                raise PlanError(
                    f"port {port} of {host}: this user may not listen on it."
                    " Take a port above 1023."
                ) from None
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise PlanError(
                        f"frontend.host={host}: cannot be listened on ({error.strerror})."
                        " Use an address of this machine; 127.0.0.1 keeps the API to it."
                    ) from None
                return False
    return True


def _addresses(
    host: str, port: int
) -> list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PlanError(
            f"frontend.host={host}: no such host ({error.strerror})."
            " Use an address of this machine; 127.0.0.1 keeps the API to it."
        ) from None
    return found  # type: ignore[return-value]


def reachable(host: str) -> str:
    """The host to put into a URL for a client on this machine: a wildcard becomes loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"
