"""Tool-call accuracy: the next turn, written greedily, against the calls it should be.

Nothing of what the model writes is repaired: calls are read by `lmrun.models.tool_calls`, the
reader of the server.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrun.engine.llm import LLM, Output
from lmrun.engine.messages import SamplingParams
from lmrun.errors import EngineError, PlanError, RequestError, StageError
from lmrun.evals import statistics
from lmrun.evals.report import ToolScore
from lmrun.evals.scoring import not_finite
from lmrun.evals.task_scores import BATCH, MAX_TOKENS
from lmrun.evals.tool_files import ExpectedCall, ToolFile, ToolItem
from lmrun.models.chat_template import ChatTemplate
from lmrun.models.tool_calls import FORMATS, ToolCall, ToolCallStream, ToolFormat, find_format
from lmrun.progress import progress_bar


def check_tools(template: ChatTemplate | None, model: str) -> ToolFormat:
    """How the calls of a model are read; `PlanError` where its chat template has no tools."""
    if template is None:
        raise PlanError(
            f"evaluate.tools: the model in {model} has no chat template, so no tools can be"
            " offered to it. Set model.chat_template, or evaluate.tools=null."
        )
    found = find_format(template.source)
    if found is None:
        raise PlanError(
            f"evaluate.tools: the chat template {template.origin} has no tools, or writes calls in"
            f" no format that is built yet ({', '.join(one.name for one in FORMATS)}). Use"
            " another model or template, or evaluate.tools=null."
        )
    return found


def check_tools_of(llm: LLM) -> ToolFormat:
    """`check_tools` of the model of an engine."""
    return check_tools(llm.template, Path(str(llm.effective_config()["workspace"])).name)


def score_tools(llm: LLM, file: ToolFile, details: Path | None) -> tuple[ToolScore, list[str]]:
    """Accuracy on a tools file, and what a reader of it must know. `PlanError` as `check_tools`."""
    tool_format = check_tools_of(llm)
    longest = int(llm.effective_config()["context_length"])
    max_tokens = min(MAX_TOKENS, longest // 2)
    sizes = [_prompt_len(llm, item, number) for number, item in enumerate(file.items)]
    fitting = [i for i, size in enumerate(sizes) if size <= longest - max_tokens]
    outputs: dict[int, Output] = {}
    params = SamplingParams(temperature=0, max_tokens=max_tokens)
    with progress_bar("tools", len(sizes), len(sizes) - len(fitting), unit="items") as advance:
        for start in range(0, len(fitting), BATCH):
            batch = fitting[start : start + BATCH]
            try:
                found = llm.chats(
                    [file.items[i].messages for i in batch],
                    params,
                    tools=[file.items[i].tools for i in batch],
                )
            except EngineError as error:
                raise not_finite(f"tools: items {batch[0]} to {batch[-1]}", error) from error
            outputs.update(zip(batch, found, strict=True))
            advance(len(batch))
    right = [
        i in outputs and is_right(tool_format, outputs[i].text, outputs[i].finish_reason, item)
        for i, item in enumerate(file.items)
    ]
    if details is not None:
        _write(details, file.items, outputs, right)
    notes = []
    if len(fitting) < len(sizes):
        notes.append(
            f"tools: prompts that do not fit into the context of {longest} tokens count as wrong:"
            f" {len(sizes) - len(fitting)} of {len(sizes)} items"
        )
    return _score(file, right), notes


def _prompt_len(llm: LLM, item: ToolItem, number: int) -> int:
    """Tokens of an item's prompt; `StageError` where the template refuses its messages."""
    try:
        return len(llm.chat_token_ids(item.messages, item.tools))
    except RequestError as error:
        raise StageError(f"tools: item {number}: {error}") from error


def _score(file: ToolFile, right: Sequence[bool]) -> ToolScore:
    shares = [float(value) for value in right]
    calls = [share for share, item in zip(shares, file.items, strict=True) if item.calls]
    words = [share for share, item in zip(shares, file.items, strict=True) if not item.calls]
    return ToolScore(
        format=file.format,
        digest=file.digest,
        items=len(shares),
        accuracy=statistics.mean(shares),
        accuracy_standard_error=statistics.standard_error(shares),
        call_items=len(calls),
        call_accuracy=statistics.mean(calls) if calls else None,
        word_accuracy=statistics.mean(words) if words else None,
    )


def is_right(tool_format: ToolFormat, text: str, finish_reason: str, item: ToolItem) -> bool:
    """Whether a turn is the one expected.

    Words: some text, and neither a call nor the mark of one. Calls: those expected and no other,
    the turn ended by the model, and no mark of a call that could not be read. Words beside the
    calls do not matter.
    """
    stream = ToolCallStream(tool_format)
    parts = [*stream.push(text), *stream.finish()]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    words = "".join(part for part in parts if isinstance(part, str))
    if tool_format.open in words:
        return False
    if not item.calls:
        return not calls and bool(words.strip())
    if finish_reason != "stop" or len(calls) != len(item.calls):
        return False
    if item.in_order:
        return all(map(_matches, calls, item.calls))
    return _matches_in_any_order(calls, item.calls)


def _matches_in_any_order(calls: Sequence[ToolCall], expected: Sequence[ExpectedCall]) -> bool:
    """Whether each of as many calls can have an expected one of its own: a perfect matching, by
    augmenting paths (Kuhn), since calls that are alike have factorially many orders."""
    fits = [[_matches(call, one) for one in expected] for call in calls]
    taken: dict[int, int] = {}  # expected call → the call that has it

    def has_place(call: int, tried: set[int]) -> bool:
        for place, is_fit in enumerate(fits[call]):
            if is_fit and place not in tried:
                tried.add(place)
                if place not in taken or has_place(taken[place], tried):
                    taken[place] = call
                    return True
        return False

    return all(has_place(call, set()) for call in range(len(calls)))


def _matches(call: ToolCall, expected: ExpectedCall) -> bool:
    if call.name != expected.name:
        return False
    arguments = json.loads(call.arguments)
    if expected.accepted:
        return _all_accepted(arguments, expected.arguments)
    return is_equal(arguments, expected.arguments)


def _all_accepted(values: Mapping[str, Any], accepted: Mapping[str, Any]) -> bool:
    """Each value among the accepted ones of its name; "" among them: it may be left out."""
    return set(values) <= set(accepted) and all(
        any(_is_accepted(values[name], one) for one in several) if name in values else "" in several
        for name, several in accepted.items()
    )


def _is_accepted(value: Any, accepted: Any) -> bool:  # noqa: ANN401 - any JSON
    """An accepted object may hold lists of accepted values in its turn, as the file's own do."""
    if isinstance(value, dict) and isinstance(accepted, dict):
        if all(isinstance(several, list) for several in accepted.values()) and _all_accepted(
            value, accepted
        ):
            return True
        return is_equal(value, accepted)
    if isinstance(value, list) and isinstance(accepted, list):
        return len(value) == len(accepted) and all(map(_is_accepted, value, accepted))
    return is_equal(value, accepted)


def is_equal(left: Any, right: Any) -> bool:  # noqa: ANN401 - any JSON
    """Equality of JSON values: 1 is 1.0, true is not 1, the order of an object does not matter."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if type(left) in (int, float) and type(right) in (int, float):
        return bool(left == right)
    return type(left) is type(right) and bool(left == right)


def _write(
    path: Path, items: Sequence[ToolItem], outputs: Mapping[int, Output], right: Sequence[bool]
) -> None:
    lines = []
    for index, (item, value) in enumerate(zip(items, right, strict=True)):
        output = outputs.get(index)
        lines.append(
            {
                "item": index,
                "is_right": value,
                "expected": [
                    {"name": call.name, "arguments": call.arguments} for call in item.calls
                ],
                "completion": None if output is None else output.text,
                "finish_reason": None if output is None else output.finish_reason,
            }
        )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
