"""What the API refuses, in which words; the server stays up."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
PLAIN = {"model": "tiny", "prompt": "hi", "max_tokens": 2}


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])


def post(deployment: Any, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{deployment.url}/v1/{path}", json=body, timeout=30)


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: expected JSON: Input data was truncated."),
        (b"{'a': 1}", "body: expected JSON: JSON is malformed"),
        (b"model=tiny", "body: expected JSON: JSON is malformed"),
        (b'{"model": "\xff"}', "body: expected JSON: "),
        (b'{"prompt": NaN}', "body: expected JSON: "),
        (b'{"prompt": "\\ud800"}', "body: expected JSON: "),
        (b"[" * 100_000, "body: expected JSON: "),
        (b"[1, 2]", "body: expected a JSON object, got list."),
    ],
)
def test_a_body_that_is_not_json_is_refused(
    deployment: Any, path: str, body: bytes, message: str
) -> None:
    response = httpx.post(f"{deployment.url}/v1/{path}", content=body)
    error = error_of(response, 400)
    assert error["message"].startswith(message)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_json")
    assert deployment.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"max_tokens": -1}, "max_tokens", "expected greater than or equal to "),
        ({"max_tokens": "5"}, "max_tokens", "expected a valid integer, got '5'."),
        ({"max_tokens": True}, "max_tokens", "expected a valid integer, got True."),
        ({"temperature": 2.5}, "temperature", "expected less than or equal to 2, got 2.5."),
        ({"top_p": 0}, "top_p", "expected greater than 0, got 0."),
        ({"top_k": -2}, "top_k", "expected greater than or equal to -1, got -2."),
        ({"top_k": 10**30}, "top_k", "expected less than 9223372036854775808, got 1000000"),
        ({"seed": 2**63}, "seed", "expected less than 9223372036854775808, got 92233720"),
        ({"min_tokens": 3}, "min_tokens", "3 is more than max_tokens, 2."),
        ({"stop": ""}, "stop", "expected a string or a list of strings, none of them empty."),
        ({"stop": [1]}, "stop", "expected a string or a list of strings, none of them empty."),
        ({"stop": ["a"] * 17}, "stop", "expected at most 16 strings, got 17."),
        ({"logit_bias": {"x": 1}}, "logit_bias", "expected token ids from 0 to 271 as keys"),
        ({"logit_bias": {"272": 1}}, "logit_bias", "expected token ids from 0 to 271 as keys"),
        (
            {"logit_bias": {"9" * 5000: 1}},
            "logit_bias",
            "expected token ids from 0 to 271 as keys, got '99999999999999999999…'.",
        ),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "expected less than or equal to 100"),
        ({"stream": "yes"}, "stream", "expected a valid boolean, got 'yes'."),
        ({"stream_options": {}}, "stream_options", "only legal together with stream: true."),
        ({"temprature": 1}, "temprature", "unknown field. Did you mean `temperature`?"),
        ({"frobnicate": 1}, "frobnicate", "unknown field."),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            "only legal together with include_usage: true.",
        ),
        (
            {"stream": True, "stream_options": {"usage": True}},
            "stream_options.usage",
            "unknown field.",
        ),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_wrong_value_is_refused_by_name(
    deployment: Any, path: str, changes: dict[str, Any], param: str, message: str
) -> None:
    body = (CHAT if path.startswith("chat") else PLAIN) | changes
    error = error_of(post(deployment, path, body), 400)
    assert error["message"].startswith(f"{param}: {message}")
    assert error["param"] == param


CHAT_NOT_BUILT: dict[str, tuple[list[Any], list[Any]]] = {
    "audio": ([None], [{"voice": "x"}]),
    "frequency_penalty": ([0, 0.0, None], [0.5]),
    "function_call": (["none"], ["auto"]),
    "functions": ([[]], [[{"name": "f"}]]),
    "min_p": ([0], [0.1]),
    "modalities": ([["text"]], [["text", "audio"]]),
    "n": ([1, None], [2, 0, True]),
    "prediction": ([None], [{"type": "content", "content": "x"}]),
    "presence_penalty": ([0], [-1]),
    "reasoning_effort": ([None], ["high"]),
    "repetition_penalty": ([1.0], [1.1]),
    "response_format": ([{"type": "text"}, {}], [{"type": "json_object"}]),
    "service_tier": (["auto"], ["flex"]),
    "store": ([False], [True]),
    "web_search_options": ([{}], [{"search_context_size": "low"}]),
}
PLAIN_NOT_BUILT: dict[str, tuple[list[Any], list[Any]]] = {
    "best_of": ([1], [2]),
    "frequency_penalty": ([0], [0.5]),
    "n": ([1], [2]),
    "presence_penalty": ([0], [0.5]),
    "suffix": (["", None], ["x"]),
}


@pytest.mark.parametrize(
    ("path", "field"),
    [("chat/completions", field) for field in CHAT_NOT_BUILT]
    + [("completions", field) for field in PLAIN_NOT_BUILT],
)
def test_a_field_not_built_yet_is_legal_where_it_asks_for_nothing(
    deployment: Any, path: str, field: str
) -> None:
    is_chat = path.startswith("chat")
    base = CHAT if is_chat else PLAIN
    legal, refused = (CHAT_NOT_BUILT if is_chat else PLAIN_NOT_BUILT)[field]
    for value in legal:
        assert post(deployment, path, base | {field: value}).status_code == 200
    for value in refused:
        error = error_of(post(deployment, path, base | {field: value}), 400)
        assert error["message"].startswith(f"{field}: not built yet. Leave it out")
        assert (error["param"], error["code"]) == (field, "not_built")


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_prompt_logprobs_are_refused_with_what_to_send_instead(deployment: Any, path: str) -> None:
    base = CHAT if path.startswith("chat") else PLAIN
    assert post(deployment, path, base | {"prompt_logprobs": None}).status_code == 200
    error = error_of(post(deployment, path, base | {"prompt_logprobs": 1}), 400)
    assert error["message"] == (
        "prompt_logprobs: not built yet. Send echo: true and logprobs: 0 to /v1/completions, which"
        " scores the prompt too; max_tokens: 0 scores it alone."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"max_tokens": 0},
            "max_tokens: 0 is only legal together with echo: true, where the prompt alone comes"
            " back. Use at least 1.",
        ),
        (
            {"max_tokens": 0, "echo": False},
            "max_tokens: 0 is only legal together with echo: true, where the prompt alone comes"
            " back. Use at least 1.",
        ),
        ({"logprobs": 21}, "logprobs: expected an integer from 0 to 20, got 21."),
        ({"logprobs": -1}, "logprobs: expected an integer from 0 to 20, got -1."),
        ({"logprobs": True}, "logprobs: expected an integer from 0 to 20, got True."),
        ({"logprobs": 1.0}, "logprobs: expected an integer from 0 to 20, got 1.0."),
        ({"echo": 1}, "echo: expected a valid boolean, got 1."),
        (
            {"echo": True, "prompt": [5, 272]},
            "prompt: expected token ids from 0 to 271, got 272.",
        ),
    ],
)
def test_what_echo_and_logprobs_refuse_names_what_is_legal(
    deployment: Any, changes: dict[str, Any], message: str
) -> None:
    error = error_of(post(deployment, "completions", PLAIN | changes), 400)
    assert error["message"] == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_logprobs": 2}, "top_logprobs: only legal together with logprobs: true."),
        (
            {"logprobs": True, "top_logprobs": 21},
            "top_logprobs: expected less than or equal to 20, got 21.",
        ),
        ({"logprobs": 1}, "logprobs: expected a valid boolean, got 1."),
    ],
)
def test_what_logprobs_of_a_chat_refuse_names_what_is_legal(
    deployment: Any, changes: dict[str, Any], message: str
) -> None:
    error = error_of(post(deployment, "chat/completions", CHAT | changes), 400)
    assert error["message"] == message


def test_a_chat_of_no_tokens_is_refused(deployment: Any) -> None:
    error = error_of(post(deployment, "chat/completions", CHAT | {"max_tokens": 0}), 400)
    assert error["message"] == "max_tokens: expected greater than or equal to 1, got 0."


def test_user_and_metadata_are_accepted(deployment: Any) -> None:
    extra = {"user": "u", "metadata": {"a": "b"}, "safety_identifier": "s", "seed": None}
    assert post(deployment, "chat/completions", CHAT | extra).status_code == 200
    assert post(deployment, "completions", PLAIN | extra).status_code == 200


@pytest.mark.parametrize(
    ("messages", "param", "message"),
    [
        ([], "messages", "List should have at least 1 item"),
        ("hi", "messages", "expected a valid list, got 'hi'."),
        ([{"content": "x"}], "messages[0].role", "required."),
        ([{"role": "user"}], "messages[0].content", "required."),
        ([{"role": "robot", "content": "x"}], "messages[0].role", "expected 'system', "),
        ([{"role": "user", "content": None}], "messages[0].content", "expected a string or a"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "messages[0].content",
            "part 0: type 'image_url' is not built yet; use 'text' parts only.",
        ),
        (
            [{"role": "function", "content": "x", "name": "f"}],
            "messages[0].role",
            "'function' messages are not built yet.",
        ),
        (
            [{"role": "user", "content": "x", "tool_call_id": "1"}],
            "messages[0].tool_call_id",
            "only legal in a message of role 'tool'.",
        ),
        (
            [{"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}],
            "messages[0].tool_calls",
            "only legal in a message of role 'assistant'.",
        ),
        (
            [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}],
            "messages[0].tool_calls[0].function",
            "required.",
        ),
        ([{"role": "tool"}], "messages[0].content", "required."),
        ([{"role": "user", "content": "x", "mood": 1}], "messages[0].mood", "unknown field."),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(
    deployment: Any, messages: Any, param: str, message: str
) -> None:
    error = error_of(post(deployment, "chat/completions", CHAT | {"messages": messages}), 400)
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert message in error["message"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "prompt: expected a string, a list of strings, a list of token ids, or a list of"),
        ([[]], "prompt: expected a string, a list of strings, a list of token ids, or a list of"),
        ([1, "a"], "prompt: expected a string, a list of strings, a list of token ids, or a"),
        ([-1], "prompt: expected a string, a list of strings, a list of token ids, or a list"),
        ([True], "prompt: expected a string, a list of strings, a list of token ids, or a list"),
        ([5, 272], "prompt: expected token ids from 0 to 271, got 272."),
        ([2**70], "prompt: expected token ids from 0 to 271, got 1180591620717411303424."),
        (["x"] * 300, "prompt: 300 prompts at once; this server takes 272."),
    ],
)
def test_a_wrong_prompt_is_refused(deployment: Any, prompt: Any, message: str) -> None:
    error = error_of(post(deployment, "completions", PLAIN | {"prompt": prompt}), 400)
    assert error["message"].startswith(message)


def test_a_prompt_longer_than_the_context_is_refused_with_both_lengths(deployment: Any) -> None:
    error = error_of(post(deployment, "completions", {"prompt": "x" * 5000}), 400)
    assert error["message"] == (
        "prompt: 5001 tokens are too long for the context length of 4096 tokens, prompt and"
        " completion together. Shorten it to at most 4095."
    )
    assert error["code"] == "context_length_exceeded"
    messages = [{"role": "user", "content": "x" * 5000}]
    error = error_of(post(deployment, "chat/completions", {"messages": messages}), 400)
    assert error["param"] == "messages"
    error = error_of(post(deployment, "completions", {"prompt": "x" * 99, "max_tokens": 4000}), 400)
    assert error["message"] == (
        "max_tokens: 4000 and a prompt of 100 tokens are more than the context length of 4096"
        " tokens. Use at most 3996."
    )


def test_a_top_p_too_small_for_the_engines_floats_keeps_the_likeliest_token(
    deployment: Any,
) -> None:
    greedy = post(deployment, "completions", {**PLAIN, "temperature": 0}).json()
    least = post(deployment, "completions", {**PLAIN, "temperature": 2, "top_p": 1e-300}).json()
    assert least["choices"] == greedy["choices"]


def test_a_client_that_leaves_before_its_body_is_complete_is_no_error(
    launch: Callable[..., Any],
) -> None:
    deployment = launch()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", deployment.settings.port)) as client:
        client.sendall(head + b'{"prompt"')
    deployment.stop()
    assert "Traceback" not in deployment.log_path.read_text()


def test_both_names_of_max_tokens_must_agree(deployment: Any) -> None:
    both = CHAT | {"max_completion_tokens": 3}
    error = error_of(post(deployment, "chat/completions", both), 400)
    assert error["message"].startswith("max_tokens: differs from max_completion_tokens.")
    body = {**CHAT, "max_tokens": None, "max_completion_tokens": 3, "ignore_eos": True}
    answer = post(deployment, "chat/completions", body).json()
    assert answer["usage"]["completion_tokens"] == 3


def test_an_unknown_model_is_404_naming_the_served_one(deployment: Any) -> None:
    error = error_of(post(deployment, "chat/completions", CHAT | {"model": "gpt-4o"}), 404)
    assert error["message"] == "model: 'gpt-4o' is not served here. This server serves 'tiny'."
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_unknown_paths_and_methods_have_the_envelope_too(deployment: Any) -> None:
    assert error_of(deployment.get("/v1/embeddings"), 404)["message"] == (
        "GET /v1/embeddings: Not Found."
    )
    response = deployment.get("/v1/completions")
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


def test_a_body_too_large_is_413(launch: Callable[..., Any]) -> None:
    deployment = launch(max_body_bytes=10_000)
    big = json.dumps(PLAIN | {"prompt": "x" * 20_000})
    for content in (big.encode(), (part.encode() for part in (big[:9000], big[9000:]))):
        response = httpx.post(f"{deployment.url}/v1/completions", content=content)
        error = error_of(response, 413)
        assert error["message"] == "body: expected at most 10000 bytes, got more."
    assert post(deployment, "completions", PLAIN).status_code == 200


def test_without_a_key_v1_is_401_and_health_is_not(launch: Callable[..., Any]) -> None:
    deployment = launch(api_keys=("sk-one", "sk-two"))
    url = f"{deployment.url}/v1/completions"
    for headers in ({}, {"Authorization": "Bearer sk-on"}, {"Authorization": "Basic sk-one"}):
        response = httpx.post(url, json=PLAIN, headers=headers)
        error = error_of(response, 401)
        assert error["message"] == (
            "Authorization: expected `Bearer KEY` with a key of this server."
        )
        assert response.headers["www-authenticate"] == "Bearer"
    assert error_of(deployment.get("/v1/models"), 401)["code"] == "invalid_api_key"
    for key in ("sk-one", "sk-two"):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.post(url, json=PLAIN, headers=headers).status_code == 200
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        assert deployment.get(path).status_code == 200
    shown = deployment.get("/config").text + deployment.log_path.read_text()
    assert "sk-one" not in shown
    command = Path(f"/proc/{deployment.server.pid}/cmdline").read_text()
    assert "sk-one" not in command + Path(f"/proc/{deployment.server.pid}/environ").read_text()


def test_chat_without_a_template_says_how_to_set_one(
    launch: Callable[..., Any], workspace_without_template: Path
) -> None:
    deployment = launch(tokenizer_folder=str(workspace_without_template))
    error = error_of(post(deployment, "chat/completions", CHAT), 400)
    assert error["message"] == (
        "messages: this model has no chat template. Set model.chat_template to a Jinja file or a"
        " named template when it is launched, or send the text to /v1/completions."
    )
    assert post(deployment, "completions", PLAIN).status_code == 200


def test_messages_that_the_template_refuses_are_400(launch: Callable[..., Any]) -> None:
    deployment = launch(chat_template="llama2")
    messages = [{"role": "assistant", "content": "hi"}]
    error = error_of(post(deployment, "chat/completions", CHAT | {"messages": messages}), 400)
    assert error["message"] == (
        "messages: the chat template refused them: roles must alternate user, assistant, user, ..."
    )
