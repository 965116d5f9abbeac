"""The C++ rooms include only what their row in csrc/README.md allows."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"


def allowed_includes() -> dict[str, set[str]]:
    """Room → rooms it may include, read from the table in csrc/README.md."""
    rooms: dict[str, set[str]] = {}
    for line in (CSRC / "README.md").read_text().splitlines():
        if match := re.match(r"\| `(\w+)`(?:, `\w+`)* \|.*\| ([^|]+) \|$", line):
            named = re.findall(r"`(\w+)`", line.split("|")[1])
            allowed = match[2].strip()
            for room in named:
                if allowed == "all above":
                    rooms[room] = set(rooms)
                else:
                    rooms[room] = {part.strip() for part in allowed.split(",")} - {"–"}
    return rooms


@pytest.mark.parametrize("room", sorted(allowed_includes()))
def test_a_room_includes_only_the_rooms_its_row_allows(room: str) -> None:
    allowed = allowed_includes()[room] | {room}
    wrong = [
        f"{path.relative_to(CSRC)} includes {target}"
        for path in sorted((CSRC / room).rglob("*"))
        if path.suffix in {".h", ".cc"}
        for target in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
        if target.split("/")[0] not in allowed
    ]
    assert wrong == []


def test_every_room_has_a_row() -> None:
    folders = {path.name for path in CSRC.iterdir() if path.is_dir()}
    assert folders == set(allowed_includes())
