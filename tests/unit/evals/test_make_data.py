"""The data that ships is what one command writes."""

import sys
from pathlib import Path

import pytest

from lmrun.errors import ConfigError, UsageError
from lmrun.evals import make_data
from lmrun.models import builtin_data


def test_the_stories_that_ship_are_what_the_command_writes() -> None:
    path = builtin_data.TEXTS["stories"]
    assert path.read_bytes() == make_data.stories_text().encode(), (
        "the generators changed: python -m lmrun.evals.make_data stories"
    )


def test_the_tools_that_ship_are_what_the_command_writes() -> None:
    path = builtin_data.TOOLS["tools"]
    assert path.read_bytes() == make_data.tools_text().encode(), (
        "the generators changed: python -m lmrun.evals.make_data tools"
    )


def test_what_ships_is_small() -> None:
    assert builtin_data.TEXTS["stories"].stat().st_size <= 300_000
    assert builtin_data.TOOLS["tools"].stat().st_size <= 100_000


def test_no_story_comes_twice() -> None:
    stories = make_data.stories_text().strip().split("\n\n")
    assert len(stories) > 500
    assert len(set(stories)) == len(stories)


def test_the_command_writes_what_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data" / "stories.txt"
    monkeypatch.setitem(make_data.MAKERS, "stories", (path, lambda: "a story\n"))
    make_data.main(["stories"])
    assert path.read_text() == "a story\n"
    assert capsys.readouterr().out == f"{path}: 8 bytes\n"
    with pytest.raises(UsageError) as caught:
        make_data.main(["poems"])
    assert str(caught.value) == "poems: no such data. Legal: stories, tools."


def test_a_built_in_name_is_found_and_another_refused() -> None:
    known = builtin_data.TEXTS
    assert builtin_data.path("builtin:stories", known, "evaluate.data") == known["stories"]
    assert builtin_data.path("a/b.txt", known, "evaluate.data") == Path("a/b.txt")
    with pytest.raises(ConfigError) as caught:
        builtin_data.path("builtin:poems", known, "evaluate.data")
    assert str(caught.value) == (
        "evaluate.data=builtin:poems: no such built-in data. Use builtin:stories or a file."
    )


def test_evaluations_need_no_torch() -> None:
    import subprocess

    code = (
        "import sys, lmrun.evals.run, lmrun.evals.junit;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
