"""What serving a token costs, by a real server."""

from lmrun.deploy.serving_cost import seconds_a_token


def test_a_streamed_token_costs_the_server_some_microseconds() -> None:
    assert 1e-6 < seconds_a_token(threads=1, requests=2) < 0.1
