"""The last sentences of a refusal: did-you-mean, and what is legal."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, legal: Iterable[str]) -> str:
    """`` Did you mean X?`` with its leading blank, or nothing."""
    near = get_close_matches(word, list(legal), 1)
    return f" Did you mean {near[0]}?" if near else ""


def listed(words: Iterable[object], last: str = "or") -> str:
    """``a, b or c``."""
    texts = [str(word) for word in words]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} {last} {texts[-1]}"
