"""The real openai client against a real server: what users of the API see."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from lmrun.models.tokenizer import Tokenizer
from unit.processes import PATIENCE_S

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
GREEDY = {"temperature": 0, "max_tokens": 24}


def test_a_chat_streams_what_it_answers_whole(deployment: Any, tiny_workspace: Path) -> None:
    client = deployment.openai
    whole = client.chat.completions.create(model="tiny", messages=MESSAGES, **GREEDY)
    assert whole.object == "chat.completion"
    assert whole.model == "tiny"
    assert whole.choices[0].finish_reason == "length"
    assert whole.choices[0].message.role == "assistant"
    prompt = (
        "<|bos|><|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    num_prompt = len(Tokenizer.from_folder(tiny_workspace).encode(prompt, False))
    assert whole.usage.prompt_tokens == num_prompt
    assert whole.usage.completion_tokens == 24
    assert whole.usage.total_tokens == num_prompt + 24

    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            **GREEDY,
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 24
    assert chunks[-1].usage.prompt_tokens == num_prompt
    assert all(c.usage is None for c in chunks[:-1])
    assert {c.id for c in chunks} == {chunks[0].id}
    assert chunks[0].id.startswith("chatcmpl-")


def test_without_include_usage_no_chunk_has_one(deployment: Any) -> None:
    chunks = list(
        deployment.openai.completions.create(model="tiny", prompt="x", stream=True, max_tokens=4)
    )
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)


@pytest.mark.parametrize("is_chat", [True, False])
def test_each_chunk_may_carry_the_usage_so_far(deployment: Any, is_chat: bool) -> None:
    client = deployment.openai
    asked: dict[str, Any] = {
        "model": "tiny",
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        **GREEDY,
    }
    if is_chat:
        chunks = list(client.chat.completions.create(messages=MESSAGES, **asked))
    else:
        chunks = list(client.completions.create(prompt="hello", **asked))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 24
    assert len({chunk.usage.prompt_tokens for chunk in chunks}) == 1
    assert chunks[-1].choices == []


def test_completions_take_a_string_strings_ids_and_lists_of_ids(
    deployment: Any, tiny_workspace: Path
) -> None:
    client = deployment.openai
    tokenizer = Tokenizer.from_folder(tiny_workspace)
    ids = [tokenizer.encode(text) for text in ("hello", "other words")]

    def texts(prompt: object) -> list[str]:
        answer = client.completions.create(model="tiny", prompt=prompt, **GREEDY)
        assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
        assert answer.usage.completion_tokens == 24 * len(answer.choices)
        return [choice.text for choice in answer.choices]

    both = texts(["hello", "other words"])
    assert [texts("hello")[0], texts("other words")[0]] == both
    assert texts(ids) == both
    assert texts(ids[0]) == both[:1]

    streamed = ["", ""]
    reasons = {}
    for chunk in client.completions.create(
        model="tiny", prompt=["hello", "other words"], stream=True, **GREEDY
    ):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
        reasons[chunk.choices[0].index] = chunk.choices[0].finish_reason
    assert streamed == both
    assert reasons == {0: "length", 1: "length"}


def test_a_stop_string_ends_the_text_before_it(deployment: Any) -> None:
    client = deployment.openai
    whole = client.completions.create(model="tiny", prompt="hello", **GREEDY).choices[0].text
    stop = next(char for i, char in enumerate(whole) if i > 2 and char.isascii())
    cut = client.completions.create(model="tiny", prompt="hello", stop=["#!?", stop], **GREEDY)
    assert cut.choices[0].text == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage.completion_tokens < 24
    stream = client.completions.create(
        model="tiny", prompt="hello", stop=stop, stream=True, **GREEDY
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == whole[: whole.index(stop)]


def test_the_end_of_sequence_ids_stop_unless_ignored(deployment: Any) -> None:
    client = deployment.openai
    bias = {"259": 100}  # <|im_end|>, from generation_config.json

    def run(**extra: object) -> tuple[str | None, int]:
        answer = client.completions.create(
            model="tiny", prompt="hello", logit_bias=bias, extra_body=extra, **GREEDY
        )
        assert "<|im_end|>" not in answer.choices[0].text
        return answer.choices[0].finish_reason, answer.usage.completion_tokens

    assert run() == ("stop", 1)
    assert run(ignore_eos=True) == ("length", 24)
    assert run(min_tokens=5) == ("stop", 6)


def test_a_seed_repeats_and_none_does_not(deployment: Any) -> None:
    def run(seed: int | None) -> str:
        answer = deployment.openai.completions.create(
            model="tiny", prompt="hello", max_tokens=24, seed=seed, temperature=1
        )
        return answer.choices[0].text

    assert run(5) == run(5)
    assert run(-5) == run(-5)
    assert run(5) != run(6)
    assert run(None) != run(None)


def test_top_k_of_one_is_greedy(deployment: Any) -> None:
    client = deployment.openai
    greedy = client.completions.create(model="tiny", prompt="hello", **GREEDY)
    one = client.completions.create(
        model="tiny", prompt="hello", max_tokens=24, temperature=2, extra_body={"top_k": 1}
    )
    assert one.choices[0].text == greedy.choices[0].text


def test_content_may_be_text_parts_and_developer_is_system(deployment: Any) -> None:
    client = deployment.openai

    def run(messages: list[dict[str, object]]) -> tuple[str | None, int]:
        answer = client.chat.completions.create(model="tiny", messages=messages, **GREEDY)
        return answer.choices[0].message.content, answer.usage.prompt_tokens

    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert run([{"role": "user", "content": parts}]) == run(
        [{"role": "user", "content": "one\ntwo"}]
    )
    assert run([{"role": "developer", "content": "x"}]) == run([{"role": "system", "content": "x"}])


def test_without_max_tokens_a_chat_may_fill_the_context(deployment: Any) -> None:
    answer = deployment.openai.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "x" * 4000}],
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens == 4096


def test_models_are_listed(deployment: Any) -> None:
    client = deployment.openai
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "lmrun"
    with pytest.raises(openai.NotFoundError, match="This server serves 'tiny'"):
        client.models.retrieve("gpt-4o")


def test_sixteen_at_once_get_the_answers_of_one_alone_and_share_steps(deployment: Any) -> None:
    prompts = [f"prompt {'x' * i} number {i}" for i in range(16)]

    async def run() -> list[str]:
        client = openai.AsyncOpenAI(base_url=deployment.url + "/v1", api_key="none", max_retries=0)

        async def one(index: int) -> str:
            options = {"model": "tiny", "prompt": prompts[index], "temperature": 0}
            if index % 2:
                answer = await client.completions.create(**options, max_tokens=200)
                return answer.choices[0].text
            stream = await client.completions.create(**options, max_tokens=200, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])

        answers = await asyncio.gather(*(one(index) for index in range(16)))
        await client.close()
        return answers

    together = asyncio.run(run())
    client = deployment.openai
    alone = [
        client.completions.create(model="tiny", prompt=prompt, temperature=0, max_tokens=200)
        .choices[0]
        .text
        for prompt in prompts
    ]
    assert together == alone
    most = deployment.metric('lmrun_sequences_per_step_bucket{le="16.0"}')
    assert most > deployment.metric('lmrun_sequences_per_step_bucket{le="11.0"}')


def test_two_hundred_random_disconnects_leave_no_block_in_use(deployment: Any) -> None:
    rng = random.Random(0)
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 3000, "ignore_eos": True}

    async def leave(client: openai.AsyncOpenAI, delay_s: float, is_stream: bool) -> None:
        request = client.post("/completions", body={**body, "stream": is_stream}, cast_to=object)
        task = asyncio.create_task(_ignore(request))
        await asyncio.sleep(delay_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def run() -> None:
        client = openai.AsyncOpenAI(base_url=deployment.url + "/v1", api_key="none", max_retries=0)
        door = asyncio.Semaphore(12)

        async def one(index: int) -> None:
            async with door:
                await leave(client, rng.random() * 0.2, bool(index % 2))

        await asyncio.gather(*(one(index) for index in range(200)))
        await client.close()

    async def _ignore(request: object) -> None:
        await request  # type: ignore[misc]

    aborted = deployment.metric('lmrun_requests_total{outcome="abort"}')
    asyncio.run(run())
    deadline = time.monotonic() + PATIENCE_S
    while deployment.metric("lmrun_kv_blocks_used") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert deployment.metric("lmrun_kv_blocks_used") == 0
    assert deployment.metric("lmrun_requests_running") == 0
    assert deployment.metric("lmrun_requests_waiting") == 0
    assert deployment.metric('lmrun_requests_total{outcome="abort"}') >= aborted + 20
    assert deployment.get("/health/ready").status_code == 200
