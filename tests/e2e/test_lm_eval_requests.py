"""The requests that lm-eval makes, replayed: they must score as our own evaluation does.

Shapes and arithmetic are those of lm-eval 0.4.13 (`LocalCompletionsAPI`, `TemplateAPI`,
`RemoteTokenizer`, `TemplateLM._encode_pair`); `test_lm_eval.py` runs the real package.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import lmrun
from lmrun.engine.llm import LLM
from lmrun.evals.run import Evaluation, evaluate
from lmrun.plan.engine_settings import EngineSettings

ITEMS = [
    ("Question: What is wet?\nAnswer:", ["fire", "water", "sand"], 1),
    ("Call the function that adds", ["add(3, 5)", "a naïve “guess” – 日本", "the sky"], 0),
    ("Compute (3+5)*2 ", ["16", "a very long answer that is wrong, at least it looks so"], 0),
    ("é", ["x y z", "xyz", "é"], 2),
]
STOPS = ["Question:", "</s>", "<|im_end|>"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ("model=demo", "quant=none", "backend.threads=1", f"frontend.port={port}")
    with lmrun.up(*settings) as running:
        yield running.base_url


class LmEval:
    """What lm-eval does with ``base_url={url}/v1/completions`` and its defaults."""

    def __init__(self, url: str) -> None:
        self.url = url
        info = self._get("/tokenizer_info")
        assert "eos_token" in info
        self.eos = str(info["eos_token"])
        assert isinstance(self.encode("test"), list)

    def _get(self, path: str) -> dict[str, Any]:
        answer = httpx.get(self.url + path, timeout=5, trust_env=False)
        answer.raise_for_status()
        return dict(answer.json())

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(self.url + path, json=body, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def encode(self, text: str) -> list[int]:
        body = {"prompt": text, "add_special_tokens": False}
        return list(self.post("/tokenize", body)["tokens"])

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], int]:
        spaces = len(context) - len(context.rstrip())
        if spaces > 0:
            continuation = context[-spaces:] + continuation
            context = context[:-spaces]
        return self.encode(context + continuation), len(self.encode(context))

    def loglikelihoods(self, pairs: list[tuple[list[int], int]]) -> list[tuple[float, bool]]:
        answer = self.post(
            "/v1/completions",
            {
                "model": "demo",
                "prompt": [ids for ids, _ in pairs],
                "temperature": 0,
                "max_tokens": 1,
                "logprobs": 1,
                "seed": 1234,
                "echo": True,
            },
        )
        found = []
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        for choice, (_, context_len) in zip(choices, pairs, strict=True):
            assert context_len > 0
            logprobs = choice["logprobs"]["token_logprobs"][context_len:-1]
            tops = choice["logprobs"]["top_logprobs"][context_len:-1]
            is_greedy = all(
                logprob == max(top.values()) for logprob, top in zip(logprobs, tops, strict=True)
            )
            found.append((sum(logprobs), is_greedy))
        return found


def test_choices_are_scored_to_the_last_bit_as_our_evaluation_does(
    url: str, tmp_path: Path
) -> None:
    file = tmp_path / "task.jsonl"
    with file.open("w") as out:
        for prompt, choices, answer in ITEMS:
            out.write(json.dumps({"prompt": prompt, "choices": choices, "answer": answer}) + "\n")
    planned = httpx.get(f"{url}/config", trust_env=False).json()["planned"]
    quality = evaluate(
        LLM(EngineSettings(**planned)),
        Evaluation(tasks={"task": file}),
        baseline=None,
        details=tmp_path,
    )
    client = LmEval(url)
    right: dict[str, list[bool]] = {"accuracy": [], "accuracy_norm": [], "accuracy_bytes": []}
    own = [json.loads(line) for line in (tmp_path / "tasks.task.jsonl").read_text().splitlines()]
    for (prompt, choices, answer), row in zip(ITEMS, own, strict=True):
        pairs = [client.encode_pair(prompt, " " + choice) for choice in choices]
        sums = [logprob for logprob, _ in client.loglikelihoods(pairs)]
        assert sums == row["logprobs"]
        for name, lengths in (
            ("accuracy", [1] * len(choices)),
            ("accuracy_norm", [len(choice) for choice in choices]),
            ("accuracy_bytes", [len(choice.encode()) for choice in choices]),
        ):
            scaled = [logprob / size for logprob, size in zip(sums, lengths, strict=True)]
            right[name].append(scaled.index(max(scaled)) == answer)
    for name, values in right.items():
        assert getattr(quality.tasks["task"], name) == sum(values) / len(values)


def test_a_continuation_is_greedy_exactly_where_the_model_writes_it(url: str) -> None:
    client = LmEval(url)
    prompt = client.encode("Question: What is wet?\nAnswer:")
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 0, "ignore_eos": True}
    (name,) = client.post("/v1/completions", body)["choices"][0]["logprobs"]["tokens"]
    (written,) = client.encode(name)
    other = 0 if written else 1
    (_, is_greedy), (_, is_other) = client.loglikelihoods(
        [([*prompt, written], len(prompt)), ([*prompt, other], len(prompt))]
    )
    assert (is_greedy, is_other) == (True, False)


def test_texts_are_generated_until_a_stop_string(url: str) -> None:
    client = LmEval(url)
    body = {"model": "demo", "max_tokens": 64, "temperature": 0, "seed": 1234, "ignore_eos": True}
    prompts = [client.encode(prompt) for prompt, _, _ in ITEMS[:2]]
    free = client.post("/v1/completions", {"prompt": prompts, "stop": [], **body})["choices"]
    stop = free[0]["text"][3:5]
    answer = client.post("/v1/completions", {"prompt": prompts, "stop": [*STOPS, stop], **body})
    texts = [choice["text"] for choice in sorted(answer["choices"], key=lambda c: c["index"])]
    assert texts[0] == free[0]["text"].partition(stop)[0]
    assert texts[1] == free[1]["text"].partition(stop)[0]
    as_text = {"prompt": ITEMS[0][0], "stop": [*STOPS, client.eos], **body}
    answer = client.post("/v1/completions", as_text)
    assert answer["choices"][0]["text"] == free[0]["text"]


def test_windows_of_a_whole_text_are_scored_after_their_first_token(url: str) -> None:
    """`loglikelihood_rolling`: disjoint windows, each with one token of context."""
    client = LmEval(url)
    ids = client.encode("Once upon a time there was a little function that added numbers. " * 8)
    size = 20
    windows = [(ids[i - 1 : i + size], 1) for i in range(1, len(ids), size)]
    together = client.loglikelihoods(windows)
    alone = [client.loglikelihoods([window])[0] for window in windows]
    assert together == alone
    assert all(logprob < 0 for logprob, _ in together)
