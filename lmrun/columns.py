"""Rows of cells as lines of text."""

from collections.abc import Iterator, Sequence


def columns(rows: Sequence[Sequence[str]], gap: str = "  ") -> Iterator[str]:
    """A line for each row; columns without any text are left out."""
    used = [
        index for index in range(len(rows[0]) if rows else 0) if any(row[index] for row in rows)
    ]
    widths = {index: max(len(row[index]) for row in rows) for index in used}
    for row in rows:
        yield gap.join(row[index].ljust(widths[index]) for index in used).rstrip()
