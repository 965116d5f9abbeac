"""A prompt that comes back, with the log-probability of each of its tokens."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from lmrun.engine.llm import LLM, settings_for
from lmrun.models.tokenizer import Tokenizer
from unit.processes import PATIENCE_S

SCORE = {"model": "tiny", "echo": True, "logprobs": 1, "temperature": 0}
TEXT = "héllo “x”"


def ask(deployment: Any, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{deployment.url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def choice(deployment: Any, **body: Any) -> dict[str, Any]:
    (only,) = ask(deployment, **body)["choices"]
    return dict(only)


@pytest.fixture(scope="module")
def llm(deployment: Any) -> LLM:
    return LLM(settings_for(Path(deployment.settings.planned.workspace), threads=1))


@pytest.fixture(scope="module")
def tokenizer(deployment: Any) -> Tokenizer:
    return Tokenizer.from_folder(Path(deployment.settings.tokenizer_folder))


def test_the_prompts_logprobs_are_those_of_the_engine(deployment: Any, llm: LLM) -> None:
    ids = llm.tokenizer.encode("some words to score")
    alone = choice(deployment, prompt=ids, max_tokens=0, **SCORE)
    (scores,) = llm.score_full([ids], top=1)
    assert alone["finish_reason"] == "length"
    assert alone["logprobs"]["token_logprobs"] == [None, *scores.logprobs.tolist()]
    best = [max(row.values()) for row in alone["logprobs"]["top_logprobs"][1:]]
    assert best == scores.top_logprobs[:, 0].tolist()
    rows = np.asarray(llm.logits(ids), np.float64)[:-1]
    expected = rows[np.arange(len(ids) - 1), ids[1:]] - np.logaddexp.reduce(rows, axis=1)
    assert np.abs(expected - alone["logprobs"]["token_logprobs"][1:]).max() < 1e-4


def test_one_greedy_token_after_an_echo_is_the_one_that_is_sampled(
    deployment: Any, tokenizer: Tokenizer
) -> None:
    for text in ("hello", "other words", "x", TEXT):
        ids = tokenizer.encode(text)
        echoed = choice(deployment, prompt=ids, max_tokens=1, **(SCORE | {"logprobs": 3}))
        sampled = choice(deployment, prompt=ids, max_tokens=1, temperature=0, logprobs=3)
        assert echoed["text"] == tokenizer.decode(ids) + sampled["text"]
        assert echoed["finish_reason"] == sampled["finish_reason"] == "length"
        for name in ("tokens", "token_logprobs", "top_logprobs"):
            assert echoed["logprobs"][name][len(ids) :] == sampled["logprobs"][name]
        more = choice(deployment, prompt=ids, max_tokens=2, **(SCORE | {"logprobs": 3}))
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            assert more["logprobs"][name][:-1] == echoed["logprobs"][name]


def test_what_scoring_in_one_pass_may_not_skip_is_not_skipped(
    deployment: Any, tokenizer: Tokenizer
) -> None:
    ids = tokenizer.encode("hello")
    end = {"259": 100}  # <|im_end|>, from generation_config.json
    stopped = choice(deployment, prompt=ids, max_tokens=1, logit_bias=end, **SCORE)
    assert stopped["finish_reason"] == "stop"
    assert stopped["text"] == "hello"
    assert stopped["logprobs"]["tokens"][-1] == "<|im_end|>"
    assert len(stopped["logprobs"]["token_logprobs"]) == len(ids) + 1
    kept = choice(deployment, prompt=ids, max_tokens=1, min_tokens=1, logit_bias=end, **SCORE)
    assert kept["logprobs"]["tokens"][-1] != "<|im_end|>"
    seeds = {
        choice(deployment, prompt=ids, max_tokens=1, seed=seed, echo=True, logprobs=0)["text"]
        for seed in range(8)
    }
    assert len(seeds) > 1
    text = choice(deployment, prompt=ids, max_tokens=1, **SCORE)["text"]
    cut = choice(deployment, prompt=ids, max_tokens=1, stop=[text[5:]], **SCORE)
    assert (cut["text"], cut["finish_reason"]) == ("hello", "stop")


def test_tokens_of_a_text_stand_where_they_begin(deployment: Any) -> None:
    got = choice(deployment, prompt=TEXT + "<|im_end|>!", max_tokens=0, **SCORE)
    assert got["text"] == TEXT + "<|im_end|>!"
    logprobs = got["logprobs"]
    assert logprobs["tokens"] == [
        *("<|bos|>", "h", "bytes:\\xc3", "bytes:\\xa9", "l", "l", "o", " "),
        *("bytes:\\xe2", "bytes:\\x80", "bytes:\\x9c", "x"),
        *("bytes:\\xe2", "bytes:\\x80", "bytes:\\x9d", "<|im_end|>", "!"),
    ]
    assert logprobs["text_offset"] == [0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 6, 7, 8, 8, 8, 9, 19]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    for token, logprob, top in zip(
        logprobs["tokens"][1:],
        logprobs["token_logprobs"][1:],
        logprobs["top_logprobs"][1:],
        strict=True,
    ):
        assert top[token] == logprob
        assert 1 <= len(top) <= 2
        assert list(top.values()) == sorted(top.values(), reverse=True)


def test_token_ids_come_back_as_their_text_without_special_tokens(
    deployment: Any, tokenizer: Tokenizer
) -> None:
    ids = tokenizer.encode("ab<|im_end|>c")
    got = choice(deployment, prompt=ids, max_tokens=0, **SCORE)
    assert got["text"] == "abc"
    assert got["logprobs"]["tokens"] == ["<|bos|>", "a", "b", "<|im_end|>", "c"]
    assert got["logprobs"]["text_offset"] == [0, 0, 1, 2, 2]


def test_without_an_echo_offsets_count_from_the_completion(deployment: Any) -> None:
    got = choice(deployment, prompt="hello", max_tokens=24, temperature=0, logprobs=0)
    logprobs = got["logprobs"]
    assert logprobs["top_logprobs"] is None
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == 24
    assert all(logprob <= 0 for logprob in logprobs["token_logprobs"])
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        if not token.startswith(("bytes:", "token_id:")):
            assert got["text"][offset : offset + len(token)] == token
    echoed = choice(deployment, prompt="hello", max_tokens=24, temperature=0, logprobs=0, echo=True)
    assert echoed["text"] == "hello" + got["text"]
    assert echoed["logprobs"]["text_offset"][6:] == [5 + at for at in logprobs["text_offset"]]


def test_many_prompts_of_each_kind_are_scored_in_one_request(
    deployment: Any, tokenizer: Tokenizer
) -> None:
    texts = [f"prompt number {index}" for index in range(20)]
    ids = [tokenizer.encode(text) for text in texts]
    together = ask(deployment, prompt=texts, max_tokens=1, **SCORE)
    assert [one["index"] for one in together["choices"]] == list(range(20))
    assert ask(deployment, prompt=ids, max_tokens=1, **SCORE)["choices"] == together["choices"]
    for index in (0, 7, 19):
        alone = choice(deployment, prompt=ids[index], max_tokens=1, **SCORE)
        assert {**alone, "index": index} == together["choices"][index]
    tokens = sum(map(len, ids))
    assert together["usage"]["prompt_tokens"] == tokens
    assert together["usage"]["completion_tokens"] == 20
    assert together["usage"]["total_tokens"] == tokens + 20


def test_a_prompt_of_one_token_has_no_logprob(deployment: Any) -> None:
    got = choice(deployment, prompt=[7], max_tokens=0, **SCORE)
    assert got["logprobs"]["token_logprobs"] == [None]
    assert got["logprobs"]["top_logprobs"] == [None]
    with_one = choice(deployment, prompt=[7], max_tokens=1, **SCORE)
    assert with_one["logprobs"]["token_logprobs"][0] is None
    assert len(with_one["logprobs"]["token_logprobs"]) == 2


def test_a_prompt_may_fill_the_context_where_nothing_is_computed_after_it(
    deployment: Any,
) -> None:
    ids = [65 + index % 20 for index in range(4096)]
    got = choice(deployment, prompt=ids, max_tokens=0, **SCORE)
    assert len(got["logprobs"]["token_logprobs"]) == 4096
    short = choice(deployment, prompt=ids[:-1], max_tokens=1, **SCORE)
    assert short["logprobs"]["token_logprobs"][:-1] == got["logprobs"]["token_logprobs"][:-1]
    answer = httpx.post(
        f"{deployment.url}/v1/completions",
        json={"prompt": [*ids, 65], "max_tokens": 0, **SCORE},
        timeout=60,
    )
    assert answer.json()["error"]["message"] == (
        "prompt: 4097 tokens are too long for the context length of 4096 tokens, prompt and"
        " completion together. Shorten it to at most 4096."
    )


def test_an_echo_alone_computes_nothing(deployment: Any) -> None:
    before = deployment.metric("lmrun_engine_prompt_tokens_total")
    got = ask(deployment, prompt=[TEXT, "other"], max_tokens=0, echo=True)
    assert [one["text"] for one in got["choices"]] == [TEXT, "other"]
    assert [one["logprobs"] for one in got["choices"]] == [None, None]
    assert [one["finish_reason"] for one in got["choices"]] == ["length", "length"]
    assert deployment.metric("lmrun_engine_prompt_tokens_total") == before


def test_a_scored_prompt_is_counted_as_a_completion(deployment: Any) -> None:
    ended = 'lmrun_requests_total{outcome="length"}'
    names = (ended, "lmrun_prompt_tokens_total", "lmrun_completion_tokens_total")
    before = [deployment.metric(name) for name in names]
    ask(deployment, prompt=[[65, 66, 67], [68, 69]], max_tokens=1, **SCORE)
    ask(deployment, prompt=[65, 66, 67], max_tokens=0, **SCORE)
    ask(deployment, prompt=[65, 66, 67], max_tokens=2, **SCORE)
    after = [deployment.metric(name) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [4, 11, 4]


@pytest.mark.parametrize("max_tokens", [0, 1, 12])
def test_a_stream_begins_with_the_prompt_and_adds_up(deployment: Any, max_tokens: int) -> None:
    client = deployment.openai
    asked: dict[str, Any] = {
        "model": "tiny",
        "prompt": [TEXT, "other"],
        "max_tokens": max_tokens,
        "echo": True,
        "logprobs": 2,
        "temperature": 0,
    }
    whole = client.completions.create(**asked)
    chunks = list(
        client.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
    )
    assert chunks[-1].usage.model_dump() == whole.usage.model_dump()
    for index, prompt in enumerate(asked["prompt"]):
        parts = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert parts[0].text == prompt
        assert "".join(part.text for part in parts) == whole.choices[index].text
        assert [part.finish_reason for part in parts][-1] == whole.choices[index].finish_reason
        assert all(part.finish_reason is None for part in parts[:-1])
        expected = whole.choices[index].logprobs
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            joined = [value for part in parts for value in getattr(part.logprobs, name)]
            assert joined == getattr(expected, name)


def test_the_openai_client_reads_it(deployment: Any) -> None:
    answer = deployment.openai.completions.create(
        model="tiny", prompt="hello", max_tokens=0, echo=True, logprobs=5
    )
    assert isinstance(answer, openai.types.Completion)
    (only,) = answer.choices
    assert only.text == "hello"
    assert only.logprobs.tokens == ["<|bos|>", *"hello"]
    assert [len(row) in (5, 6) for row in only.logprobs.top_logprobs[1:]] == [True] * 5


def test_curl_reads_it(deployment: Any) -> None:
    body = {"prompt": "hello", "max_tokens": 0, "echo": True, "logprobs": 0}
    words = ["curl", "-s", f"{deployment.url}/v1/completions", "-d", json.dumps(body)]
    done = subprocess.run(words, capture_output=True, check=True, timeout=60)
    (only,) = json.loads(done.stdout)["choices"]
    assert only["logprobs"]["text_offset"] == [0, 0, 1, 2, 3, 4]


def test_a_client_that_leaves_ends_its_scoring(deployment: Any) -> None:
    ids = [65 + index % 20 for index in range(4096)]
    body = {"prompt": [ids] * 16, "max_tokens": 0, **SCORE}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{deployment.url}/v1/completions", json=body, timeout=0.2)
    deadline = time.monotonic() + PATIENCE_S
    while deployment.metric("lmrun_kv_blocks_used") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert deployment.metric("lmrun_kv_blocks_used") == 0
    assert deployment.metric("lmrun_requests_waiting") == 0


def test_a_chat_tells_the_logprobs_of_its_content(deployment: Any, tokenizer: Tokenizer) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 24,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 3,
    }
    client = deployment.openai
    whole = client.chat.completions.create(**asked).choices[0]
    content = whole.logprobs.content
    assert whole.logprobs.refusal is None
    assert len(content) == 24
    spelled = b"".join(bytes(token.bytes or ()) for token in content)
    assert spelled.decode(errors="replace") == whole.message.content
    for token in content:
        assert len(token.top_logprobs) == 3
        best = [one.logprob for one in token.top_logprobs]
        assert best == sorted(best, reverse=True)
        first = token.top_logprobs[0]
        assert (token.token, token.bytes, token.logprob) == (
            *(first.token, first.bytes, first.logprob),
        )
    chunks = list(client.chat.completions.create(stream=True, **asked))
    parts = [c.choices[0].logprobs for c in chunks]
    streamed = [token for part in parts if part for token in part.content]
    assert streamed == content
    without = client.chat.completions.create(**(asked | {"top_logprobs": None})).choices[0]
    assert [token.top_logprobs for token in without.logprobs.content] == [[]] * 24
    prompt = "<|bos|><|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    plain = choice(
        deployment,
        prompt=tokenizer.encode(prompt, add_special_tokens=False),
        max_tokens=24,
        temperature=0,
        logprobs=0,
    )
    assert [token.logprob for token in content] == plain["logprobs"]["token_logprobs"]


def test_the_token_that_ends_a_chat_is_no_content(deployment: Any) -> None:
    answer = deployment.openai.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=24,
        temperature=0,
        logprobs=True,
        logit_bias={"259": 100},
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs.content == []
