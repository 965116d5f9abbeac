import socket
from collections.abc import Iterator

import pytest

from lmrun.deploy import ports
from lmrun.errors import PlanError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield int(listener.getsockname()[1])


def test_a_port_in_use_is_named_with_the_next_free_one(taken: int) -> None:
    free = ports.next_free("127.0.0.1", taken)
    with pytest.raises(PlanError) as caught:
        ports.check("frontend.port", "127.0.0.1", taken)
    assert str(caught.value) == (
        f"frontend.port={taken}: port {taken} of 127.0.0.1 is in use."
        f" The next free port: frontend.port={free}."
    )
    assert free is not None
    assert free > taken


def test_a_port_whose_listener_has_gone_is_free_at_once(taken: int) -> None:
    with socket.create_connection(("127.0.0.1", taken)):
        pass
    with pytest.raises(PlanError):
        ports.check("frontend.port", "127.0.0.1", taken)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    ports.check("frontend.port", "127.0.0.1", port)


def test_two_pages_of_one_deployment_cannot_share_a_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with pytest.raises(PlanError, match=rf"^frontend\.ui_port={port}: port {port} of"):
        ports.check("frontend.ui_port", "127.0.0.1", port, taken=(port,))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        ports.check("frontend.port", "192.0.2.1", 23333)
    assert str(caught.value) == (
        "frontend.host=192.0.2.1: cannot be listened on (Cannot assign requested address)."
        " Use an address of this machine; 127.0.0.1 keeps the API to it."
    )


@pytest.mark.parametrize(
    ("host", "url_host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_a_url_names_a_host_that_a_client_here_can_reach(host: str, url_host: str) -> None:
    assert ports.reachable(host) == url_host
