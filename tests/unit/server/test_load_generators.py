"""What tools that load an OpenAI server send, word for word: it is served without a change."""

import json
from typing import Any

import httpx
import pytest

TEXT = [{"type": "text", "text": "hello"}]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "guidellm 0.8, completions": (
        "/v1/completions",
        {
            "model": "tiny",
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": 8,
            "stop": None,
            "ignore_eos": True,
            "prompt": "hello",
        },
    ),
    "guidellm 0.8, chat": (
        "/v1/chat/completions",
        {
            "model": "tiny",
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_completion_tokens": 8,
            "stop": None,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": TEXT}],
        },
    ),
    "vllm bench serve, completions": (
        "/v1/completions",
        {
            "model": "tiny",
            "prompt": "hello",
            "repetition_penalty": 1.0,
            "max_tokens": 8,
            "logprobs": None,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
            "temperature": 0.0,
        },
    ),
    "vllm bench serve, chat": (
        "/v1/chat/completions",
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": TEXT}],
            "max_completion_tokens": 8,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
            "temperature": 0.0,
        },
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_load_generator_gets_its_tokens_and_their_count(deployment: Any, name: str) -> None:
    path, body = BODIES[name]
    answer = httpx.post(deployment.url + path, json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[-1]["usage"]["completion_tokens"] == 8
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-1] == "length"


def test_a_load_generator_finds_the_server_alive_and_its_model(deployment: Any) -> None:
    assert deployment.get("/health").status_code == 200
    assert deployment.get("/v1/models").json()["data"][0]["id"] == "tiny"
