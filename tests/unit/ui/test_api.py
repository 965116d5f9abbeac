import asyncio
import json
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lmrun.errors import RequestError
from lmrun.ui import api
from lmrun.ui.api import Api, Delta, NoChatTemplateError, Sampling
from lmrun.ui.settings import PageSettings


def refusal(status: int, document: Any) -> RequestError:
    """What a refusal with this body becomes."""
    return api.refusal(status, json.dumps(document).encode())


def test_only_sampling_params_that_are_set_are_sent() -> None:
    assert Sampling(temperature=0.0, top_k=5).fields() == {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 5,
    }


def test_a_refusal_is_shown_in_the_servers_words() -> None:
    error = refusal(400, {"error": {"message": "max_tokens: must be at least 1.", "code": "x"}})
    assert str(error) == "max_tokens: must be at least 1."
    assert not isinstance(error, NoChatTemplateError)


def test_a_model_without_a_chat_template_is_told_apart() -> None:
    error = refusal(400, {"error": {"message": "messages: no.", "code": "no_chat_template"}})
    assert isinstance(error, NoChatTemplateError)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"error": 1}'])
def test_a_refusal_that_is_not_the_apis_names_the_status(body: bytes) -> None:
    assert str(api.refusal(502, body)) == "The server answered with status 502."


def test_chat_and_completion_events_become_deltas() -> None:
    chat = {"choices": [{"delta": {"content": "a"}, "finish_reason": None}]}
    completion = {"choices": [{"text": "b", "finish_reason": "length"}]}
    usage = {"choices": [], "usage": {"completion_tokens": 7}}
    role = {"choices": [{"delta": {"role": "assistant", "content": None}}]}
    assert [api.delta_of(event) for event in (role, chat, completion, usage)] == [
        Delta(""),
        Delta("a"),
        Delta("b", "length"),
        Delta("", None, 7),
    ]


def test_a_server_that_is_not_there_is_said_in_words() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(RequestError) as caught:
        asyncio.run(Api(url, "").models())
    assert str(caught.value) == f"{url}: cannot be reached. Is the deployment running?"


def test_a_server_of_another_kind_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text("<html>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(RequestError) as caught:
            asyncio.run(Api(url, "").models())
        server.shutdown()
    assert str(caught.value) == (
        f"{url}: expected an OpenAI-compatible API, got another answer from /v1/models."
    )


def test_page_settings_survive_their_trip_through_stdin() -> None:
    settings = PageSettings("http://127.0.0.1:1", 'a "name"', "127.0.0.1", 2, api_key="k")
    assert PageSettings.from_json(settings.to_json().decode()) == settings
