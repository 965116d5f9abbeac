"""The engine in process."""

from pathlib import Path

import numpy as np
import pytest

from lmrun.engine.llm import LLM
from lmrun.engine.messages import SamplingParams
from lmrun.errors import RequestError
from lmrun.plan.engine_settings import EngineSettings

GREEDY = SamplingParams(temperature=0, max_tokens=24)
PROMPTS = ["hello", "a longer prompt, of other words", "x"]


def test_a_batch_gives_the_tokens_of_each_prompt_alone(llm: LLM) -> None:
    together = llm.generate(PROMPTS, GREEDY)
    assert [llm.generate([prompt], GREEDY)[0].token_ids for prompt in PROMPTS] == [
        output.token_ids for output in together
    ]
    assert all(len(output.token_ids) == 24 for output in together)


def test_a_stream_adds_up_to_the_text_of_generate(llm: LLM) -> None:
    output = llm.generate(["hello"], GREEDY)[0]
    assert "".join(llm.stream("hello", GREEDY)) == output.text
    assert output.text == llm.tokenizer.decode(output.token_ids)


def test_a_stream_left_early_frees_its_blocks(llm: LLM) -> None:
    stream = llm.stream("hello", SamplingParams(temperature=0, max_tokens=500), ignore_eos=True)
    next(stream)
    assert llm.stats()["used_blocks"] != 0
    stream.close()
    llm.generate(["x"], SamplingParams(max_tokens=1))
    assert llm.stats()["used_blocks"] == 0


def test_streams_make_progress_while_generate_runs(llm: LLM) -> None:
    alone = llm.generate(["hello"], GREEDY)[0].text
    stream = llm.stream("hello", GREEDY)
    first = next(stream)
    llm.generate(PROMPTS, GREEDY)
    assert first + "".join(stream) == alone


def test_a_stop_string_cuts_text_and_tokens(llm: LLM) -> None:
    whole = llm.generate(["hello"], GREEDY)[0]
    start = next(i for i, char in enumerate(whole.text) if i > 3 and char.isascii())
    cut = llm.generate(["hello"], GREEDY, stop=[whole.text[start]])[0]
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(whole.text[start])]
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert len(cut.token_ids) < 24


def test_scores_are_the_log_probabilities_that_the_logits_give(llm: LLM) -> None:
    tokens = llm.tokenizer.encode("some text to be scored")
    logits = llm.logits(tokens).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = [logprobs[i, token] for i, token in enumerate(tokens[1:])]
    first, second = llm.score([tokens, tokens[:5]])
    np.testing.assert_allclose(first, expected, atol=1e-4)
    np.testing.assert_array_equal(second, first[:4])


def test_logprobs_are_those_of_the_tokens_that_count(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=8, logprobs=3)
    output = llm.generate(["hello"], params)[0]
    assert len(output.logprobs) == len(output.top_logprobs) == len(output.token_ids) == 8
    for token_id, logprob, top in zip(
        output.token_ids, output.logprobs, output.top_logprobs, strict=True
    ):
        assert len(top) == 3
        assert top[token_id] == pytest.approx(logprob)
        assert max(top.values()) == pytest.approx(logprob)


def test_the_same_seed_gives_the_same_tokens_and_another_does_not(llm: LLM) -> None:
    def run(seed: int | None) -> tuple[int, ...]:
        return llm.generate(["hello"], SamplingParams(seed=seed, max_tokens=24))[0].token_ids

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(None) != run(None)


def test_a_chat_ends_with_the_assistants_turn(llm: LLM) -> None:
    ids = llm.chat_token_ids([{"role": "user", "content": "hi"}])
    text = llm.tokenizer.decode(ids, skip_special_tokens=False)
    assert text == "<|bos|><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert llm.chat([{"role": "user", "content": "hi"}], GREEDY).prompt_token_ids == tuple(ids)


def test_a_text_is_not_taken_for_a_list_of_letters(llm: LLM) -> None:
    with pytest.raises(RequestError) as caught:
        llm.generate("hello", GREEDY)
    assert str(caught.value) == (
        "prompts: expected a list of prompts, got one text. Write generate([TEXT])."
    )
    with pytest.raises(RequestError) as caught:
        llm.generate(["hello"], GREEDY, stop="end")
    assert str(caught.value) == ("stop: expected a list of texts, got one text. Write stop=[TEXT].")
    assert llm.stats()["waiting"] == 0


def test_one_bad_prompt_leaves_no_request_behind(llm: LLM) -> None:
    with pytest.raises(RequestError, match="token id 9999"):
        llm.generate(["fine", [9999]], GREEDY)
    llm.generate(["x"], SamplingParams(max_tokens=1))
    assert llm.stats()["used_blocks"] == llm.stats()["waiting"] == 0


TOOL_TEMPLATE = (
    "{% for tool in tools or [] %}[{{ tool.function.name }} "
    "{{ tool.function.parameters | tojson }}]{% endfor %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.arguments.a }}{% endfor %}"
    "{% endfor %}<tool_call>"
)


def test_a_chat_offers_tools_through_the_models_template(
    engine_settings: EngineSettings, tmp_path: Path
) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(TOOL_TEMPLATE)
    llm = LLM(engine_settings, template=str(path))
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "dict"}}}]
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 3}'}}
    messages = [
        {"role": "developer", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    ids = llm.chat_token_ids(messages, tools)
    text = llm.tokenizer.decode(ids, skip_special_tokens=False)
    assert text == '[add {"type": "object"}]<system>x<assistant>3<tool_call>'
    output = llm.chat(messages, GREEDY, tools=tools)
    assert output.prompt_token_ids == tuple(ids)
    plain = [{"role": "user", "content": "hi"}]
    both = llm.chats([messages, plain], GREEDY, tools=[tools, None])
    assert [one.text for one in both] == [output.text, llm.chat(plain, GREEDY).text]
    with pytest.raises(RequestError, match=r"^tools\[0\]\.function: expected an object with a"):
        llm.chat(messages, GREEDY, tools=[{"type": "function"}])
