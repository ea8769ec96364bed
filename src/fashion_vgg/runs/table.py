"""Formats tables for the terminal, Markdown and HTML."""

import html
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 120
"""Width of a terminal, in characters."""
_CELL_WIDTH = 40
_NUMBER = re.compile(r"(-?[\d.,]+(e[+-]?\d+)?( (s|min|h|test|val)\b.*)?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A header, and rows of the same length.

    Columns of numbers are right-aligned, except those with a ±: there the decimal points would not line up.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Aligned columns. A table wider than `WIDTH` has shorter keys and truncated cells.

        The last column is never truncated, so that a folder in it can be copied.
        """
        lines = self._align([self.header, *self.rows])
        if len(lines[0]) > WIDTH:
            rows = [[*map(_truncate, row[:-1]), row[-1]] for row in self.rows]
            lines = self._align([_last_parts(self.header), *rows])
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """A pipe table."""
        rule = ["---:" if right else "---" for right in self._right_aligned()]
        header, *rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))

    def html(self, colors: Sequence[str]) -> str:
        """A table element with a dot of the given color in front of each row."""
        lines = ["<table>", f"<tr><th></th>{self._html_cells('th', self.header)}"]
        for color, row in zip(colors, self.rows, strict=True):
            lines.append(f'<tr><td><i style="background:{color}"></i></td>{self._html_cells("td", row)}')
        return "\n".join([*lines, "</table>"])

    def _html_cells(self, tag: str, row: Sequence[str]) -> str:
        sides = ["right" if right else "left" for right in self._right_aligned()]
        return "".join(f'<{tag} class="{side}">{html.escape(cell)}' for side, cell in zip(sides, row, strict=True))

    def _align(self, rows: Sequence[Sequence[str]]) -> list[str]:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        formats = [f"{'>' if right else '<'}{n}" for right, n in zip(self._right_aligned(), widths, strict=True)]
        return ["  ".join(map(format, row, formats)) for row in rows]

    def _right_aligned(self) -> list[bool]:
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.header)
        return [any(column) and all(map(_NUMBER.fullmatch, column)) for column in columns]


def wrap(text: str) -> str:
    """Wrap a line at `WIDTH`, but not at hyphens, so that overrides can be copied."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)


def duration(seconds: float) -> str:
    """A time with its unit: ``12.3 s``, ``3 min 05 s``, ``1 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        return "{} min {:02} s".format(*divmod(round(seconds), 60))
    return "{} h {:02} min".format(*divmod(round(seconds / 60), 60))


def _last_parts(keys: Sequence[str]) -> list[str]:
    """The last part of each dotted key, or the whole key if another one ends the same way."""
    ends = [key.rpartition(".")[2] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]


def _truncate(cell: str) -> str:
    return cell if len(cell) <= _CELL_WIDTH else f"{cell[: _CELL_WIDTH - 1]}…"
