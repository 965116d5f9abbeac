"""`measure` of a server of someone else's: it finds out how it takes requests, and what it keeps
when that server goes away."""

import itertools
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from lmrun.bench import asking
from lmrun.bench.report import BenchReport, schema
from lmrun.bench.serving import measure
from lmrun.bench.serving_text import report_text
from lmrun.config.schema import BenchConfig
from lmrun.errors import ConfigError, ExitStatus, PlanError, StageError
from unit.bench.pieces import DONE, END, HEAD, chunk, said, text
from unit.bench.someone_elses import SomeoneElses, Write, patient, plain, refusal, serving

SMALL = {"prompt_tokens": 20, "output_tokens": 3, "concurrency": [1, 2], "requests": 3, "rounds": 2}
ASKED = 1
"""Requests that find out how to ask, of a server that takes the first way."""


def config(**changes: Any) -> BenchConfig:
    return BenchConfig(**{**SMALL, **changes})


def measured(theirs: SomeoneElses, **changes: Any) -> BenchReport:
    return measure(None, config(**changes), url=theirs.url)


def test_a_server_is_measured_and_the_report_obeys_its_schema() -> None:
    with serving(patient(first_s=0.02, gap_s=0.01)) as theirs:
        report = measured(theirs)
    jsonschema.validate(report.to_json(), schema())
    assert BenchReport.from_json(report.to_json()) == report
    assert report.complete
    assert (report.target.kind, report.target.model) == ("url", "theirs")
    assert (report.target.prompts, report.target.ignores_eos) == ("token ids", True)
    assert (report.machine, report.memory, report.rates) == (None, None, None)
    one, two = report.loads
    assert [load.concurrency for load in (one, two)] == [1, 2]
    assert [load.requests for load in (one, two)] == [6, 6]
    assert [load.rounds for load in (one, two)] == [2, 2]
    assert (one.prompt_tokens, one.output_tokens, one.cached_tokens) == (20, 3, 0)
    assert one.ttft_ms is not None
    assert one.ttft_ms.p50 >= 18
    assert one.itl_ms is not None
    assert one.itl_ms.mean >= 8
    assert one.bounds == []
    assert report.figures is not None
    # the first to find out how to ask, two to warm up
    assert len(theirs.bodies) == ASKED + 2 + 12
    assert theirs.most_open == 2


def test_every_prompt_is_new_and_of_the_length_asked_for() -> None:
    with serving(patient()) as theirs:
        measured(theirs)
        measured(theirs)
    prompts = [tuple(body["prompt"]) for body in theirs.bodies]
    of_the_load = [prompt for prompt in prompts if len(prompt) == 20]
    assert len(of_the_load) == 2 * (len(theirs.bodies) // 2 - ASKED)
    assert len({prompt[:16] for prompt in prompts}) == len(prompts)


def test_completions_run_to_their_length_by_the_fields_that_servers_know() -> None:
    with serving(patient()) as theirs:
        measured(theirs)
    body = theirs.bodies[-1]
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"]) == (3, 3, True)
    assert (body["model"], body["temperature"], body["stream"]) == ("theirs", 0, True)
    assert body["stream_options"] == {"include_usage": True}


def refusing(field: str, status: int = 400) -> Callable[[dict[str, Any], Write], Any]:
    async def reply(body: dict[str, Any], write: Write) -> None:
        if field in body:
            await write(refusal(status, f"{field}: unknown field."))
        else:
            await patient()(body, write)

    return reply


def test_fields_that_a_server_refuses_are_left_out() -> None:
    with serving(refusing("min_tokens", 422)) as theirs:
        assert measured(theirs).complete
    assert "min_tokens" not in theirs.bodies[-1]
    assert theirs.bodies[-1]["ignore_eos"] is True
    with serving(refusing("ignore_eos")) as theirs:
        assert measured(theirs).complete
    assert "stream_options" in theirs.bodies[-1]
    with serving(refusing("stream_options")) as theirs:
        report = measured(theirs)
    assert report.loads[0].prompt_tokens == 20  # as many ids as were sent
    assert report.loads[0].cached_tokens is None


def test_text_is_sent_where_token_ids_are_refused_as_many_words_as_make_the_length() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        if isinstance(body["prompt"], list):
            await write(refusal(400, "prompt: expected a string."))
        else:
            await patient()(body, write)

    with serving(reply) as theirs:
        report = measured(theirs)
    assert (report.target.prompts, report.target.endpoint) == ("text", "/v1/completions")
    assert report.loads[0].prompt_tokens == 20  # 16 words, and four around them
    assert len(theirs.bodies[-1]["prompt"].split()) == 16


def test_a_server_of_chats_alone_is_asked_by_chats() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        if "messages" not in body:
            await write(plain(404, {"detail": "Not Found"}))
            return
        await write(HEAD)
        for index in range(body["max_tokens"]):
            reason = "length" if index == body["max_tokens"] - 1 else None
            await write(chunk(said("a", reason)))
        await write(chunk(DONE) + END)

    with serving(reply) as theirs:
        report = measured(theirs)
    assert report.target.endpoint == "/v1/chat/completions"
    assert theirs.paths[-1] == "/v1/chat/completions"
    assert report.loads[0].prompt_tokens is None
    assert "-" not in [load.output_tokens for load in report.loads]


def test_a_server_that_takes_nothing_is_told_with_its_own_first_words() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        await write(refusal(400, "model: is asleep."))

    with serving(reply) as theirs, pytest.raises(StageError) as caught:
        measured(theirs)
    assert str(caught.value) == (
        f"{theirs.url}: takes no request of a bench: status 400: model: is asleep."
    )
    assert len(theirs.bodies) == len(list(asking.dialects()))


def test_an_error_that_no_other_words_would_mend_is_told_at_once() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        await write(refusal(503, "loading."))

    with serving(reply) as theirs, pytest.raises(StageError, match="status 503: loading"):
        measured(theirs)
    assert len(theirs.bodies) == 1


def test_completions_that_end_early_are_told() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        await patient()({**body, "max_tokens": min(2, body["max_tokens"])}, write)

    with serving(reply) as theirs:
        report = measured(theirs)
    assert not report.target.ignores_eos
    assert report.loads[0].output_tokens == 2
    assert "note      some completions had another length than was asked for" in report_text(report)


def test_cached_prompts_are_told() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        from unit.bench.pieces import usage

        await write(HEAD + chunk(text("a")) + chunk(text("b")) + chunk(text("c", "length")))
        await write(chunk(usage(20, 3, cached=16)) + chunk(DONE) + END)

    with serving(reply) as theirs:
        report = measured(theirs)
    assert report.loads[0].cached_tokens == 6 * 16
    assert "note      1 open: 96 prompt tokens came from a prefix cache" in report_text(report)


def dying(theirs_after: int) -> Callable[[dict[str, Any], Write], Any]:
    """Answers so many requests, and breaks off those that follow."""
    count = itertools.count()

    async def reply(body: dict[str, Any], write: Write) -> None:
        if next(count) < theirs_after:
            await patient()(body, write)
        else:
            await write(HEAD + chunk(text("a")))

    return reply


def test_a_server_that_dies_in_the_middle_leaves_what_was_measured() -> None:
    # one to find out, two to warm up, the first level whole and two of the second
    with serving(dying(ASKED + 2 + 3 + 2)) as theirs:
        report = measured(theirs)
    jsonschema.validate(report.to_json(), schema())
    assert report.complete is False or report.loads[1].errors
    assert report.loads[0].requests == 3
    assert report.loads[1].requests == 2
    assert "broke off" in str(report.loads[1].error)
    assert report.figures is not None


def test_a_level_of_failures_alone_ends_the_bench() -> None:
    with serving(dying(ASKED + 2 + 3)) as theirs:
        report = measured(theirs)
    assert not report.complete
    assert str(report.problem).startswith("no request ended well; the first: the answer")
    assert [load.requests for load in report.loads] == [3, 0]
    assert f"note      it ended early: {report.problem}" in report_text(report)


def test_a_server_that_fails_from_the_first_request_on_is_an_error() -> None:
    with serving(dying(ASKED)) as theirs, pytest.raises(StageError) as caught:
        measured(theirs)
    assert str(caught.value).startswith("bench: nothing was measured: no request ended well")
    assert caught.value.status is ExitStatus.STAGE_FAILED


def test_a_server_that_goes_away_is_named() -> None:
    holder: list[SomeoneElses] = []
    count = itertools.count()

    async def reply(body: dict[str, Any], write: Write) -> None:
        if next(count) == ASKED + 2 + 3:
            holder[0].stop()
        await patient(gap_s=0.05)(body, write)

    with serving(reply) as theirs:
        holder.append(theirs)
        report = measured(theirs)
    assert not report.complete
    assert str(report.problem).startswith(f"{theirs.url}: cannot be reached: ")
    assert report.loads[0].requests == 3


def test_nobody_at_the_url_is_an_error_that_says_so() -> None:
    with pytest.raises(StageError) as caught:
        measure(None, config(), url="http://127.0.0.1:1")
    assert str(caught.value).startswith("http://127.0.0.1:1: cannot be reached: ")
    assert str(caught.value).endswith("Is the server running?")


@pytest.mark.parametrize("models", [{}, {"data": []}, [], {"data": [{}]}, {"data": [3]}])
def test_what_is_no_such_api_is_refused(models: object) -> None:
    with serving(patient()) as theirs:
        theirs.models = models
        with pytest.raises(StageError) as caught:
            measured(theirs)
    assert str(caught.value) == (
        f"{theirs.url}: expected an OpenAI-compatible API, got another answer from /v1/models."
    )


def test_a_key_is_sent_and_never_kept() -> None:
    with serving(patient()) as theirs:
        report = measure(None, config(), url=theirs.url, api_key="sk-secret")
    assert set(theirs.keys) == {"Bearer sk-secret"}
    assert "sk-secret" not in str(report.to_json())


def test_requests_longer_than_the_servers_context_are_refused() -> None:
    with serving(patient()) as theirs, pytest.raises(PlanError) as caught:
        measured(theirs, prompt_tokens=4094)
    assert str(caught.value) == (
        "bench.prompt_tokens=4094: with bench.output_tokens=3 a request has 4097 tokens, the"
        " context 4096. Lower one of them."
    )


def test_a_level_has_at_least_as_many_requests_as_are_to_be_open() -> None:
    with serving(patient(gap_s=0.01)) as theirs:
        report = measured(theirs, concurrency=[5], rounds=1)
    assert report.loads[0].requests == 5
    assert theirs.most_open == 5


def test_no_level_at_all_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        measure(None, config(concurrency=[]), url="http://127.0.0.1:1")
    assert str(caught.value) == ("bench.concurrency=[]: expected a level, got none. Such as [1,4].")


def test_a_trace_is_replayed_with_its_lengths_and_its_goodput(tmp_path: Any) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("0,10,2\n1,9000,3\n2,20,4\n3,1,1\n")
    with serving(patient(first_s=0.02)) as theirs:
        report = measured(
            theirs, trace=str(file), requests=3, rounds=1, trace_speedup=20, max_itl_ms=1e4
        )
    jsonschema.validate(report.to_json(), schema())
    lengths = [(len(body["prompt"]), body["max_tokens"]) for body in theirs.bodies[-3:]]
    assert sorted(lengths) == [(10, 2), (20, 4), (4093, 3)]
    trace = report.trace
    assert trace is not None
    assert (trace.requests, trace.clipped, trace.good_requests) == (3, 1, 3)
    assert trace.offered_requests_per_s == pytest.approx(20)
    assert trace.goodput_requests_per_s > 0
    assert trace.load.concurrency is None
    assert trace.load.seconds >= 0.1 - 0.02
    assert report.loads == []
    assert report.figures is not None
    shown = report_text(report)
    assert "the first 3 requests, 20.0 a second, 20 times as fast; 1 cut to the context" in shown
    assert "3 with TTFT within 1000 ms and mean ITL within 10000 ms" in shown


def test_requests_that_come_too_late_are_no_goodput(tmp_path: Any) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("0,10,2\n0,10,2\n")
    with serving(patient(first_s=0.05)) as theirs:
        report = measured(theirs, trace=str(file), rounds=2, max_ttft_ms=40)
    assert report.trace is not None
    assert report.trace.good_requests == 0
    assert report.trace.load.requests == 4
