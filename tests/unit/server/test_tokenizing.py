"""The tokenizer over HTTP, as vLLM's clients ask for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmrun.models.tokenizer import Tokenizer
from unit.conftest import CHATML


def ask(deployment: Any, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(deployment.url + path, json=body, timeout=30)


def test_a_text_becomes_ids_and_they_become_the_text(deployment: Any, tiny_workspace: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_workspace)
    text = "é <|im_end|>"
    whole = ask(deployment, "/tokenize", {"prompt": text, "return_token_strs": True}).json()
    assert whole == {
        "count": 5,
        "max_model_len": 4096,
        "tokens": tokenizer.encode(text),
        "token_strs": ["<|bos|>", "bytes:\\xc3", "bytes:\\xa9", " ", "<|im_end|>"],
    }
    asked = {"model": "tiny", "prompt": text, "add_special_tokens": False}
    bare = ask(deployment, "/tokenize", asked).json()
    assert bare["tokens"] == tokenizer.encode(text, add_special_tokens=False)
    assert bare["token_strs"] is None
    back = ask(deployment, "/detokenize", {"tokens": whole["tokens"]}).json()
    assert back == {"prompt": "<|bos|>" + text}
    assert ask(deployment, "/tokenize", {"prompt": ""}).json()["count"] == 1


def test_the_special_tokens_and_the_template_are_told(deployment: Any) -> None:
    assert deployment.get("/tokenizer_info").json() == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "chat_template": CHATML,
    }


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/tokenize", {}, "prompt: required."),
        ("/tokenize", {"prompt": ["a"]}, "prompt: expected a valid string, got ['a']."),
        ("/tokenize", {"messages": [{}]}, "messages: not built yet. Leave it out."),
        ("/tokenize", {"prompt": "a", "x": 1}, "x: unknown field."),
        ("/tokenize", {"prompt": "a", "model": "other"}, "model: 'other' is not served here."),
        ("/detokenize", {"tokens": [5, 272]}, "tokens: expected token ids from 0 to 271, got 272."),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]: expected greater than or equal to 0, got -1"),
    ],
)
def test_what_is_wrong_is_named(
    deployment: Any, path: str, body: dict[str, Any], message: str
) -> None:
    answer = ask(deployment, path, body)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"].startswith(message)


def test_with_keys_the_tokenizer_wants_one_too(launch: Callable[..., Any]) -> None:
    deployment = launch(api_keys=("sk-one",))
    key = {"Authorization": "Bearer sk-one"}
    for path in ("/tokenize", "/detokenize"):
        body = {"prompt": "a"} if path == "/tokenize" else {"tokens": [1]}
        assert ask(deployment, path, body).status_code == 401
        answer = httpx.post(deployment.url + path, json=body, headers=key, timeout=30)
        assert answer.status_code == 200
    assert deployment.get("/tokenizer_info").status_code == 401
