"""Server-sent events out of pieces of any size, as the HTML standard cuts them (section 9.2)."""

from collections.abc import Iterator


class EventReader:
    """Data of the events, in order. Comments and fields other than ``data`` are dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that this piece completes."""
        text = self._rest + piece
        *lines, self._rest = text.splitlines(keepends=True) or [b""]
        if self._rest.endswith(b"\n"):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            yield from self._line(line.rstrip(b"\r\n"))

    def _line(self, line: bytes) -> Iterator[bytes]:
        if not line:
            if self._data:
                yield b"\n".join(self._data)
                self._data = []
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
