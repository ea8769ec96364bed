"""Formats tables for the terminal, Markdown and HTML."""

import html
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from fashion_vgg.errors import printable

WIDTH = 120
"""Width of a terminal, in characters."""
_CELL_WIDTH = 40
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The first characters of a formula, also in the wide forms of East Asian fonts."""
_NEGATIVE_NUMBER = re.compile(r"-\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"(-?[\d.,]+(e[+-]?\d+)?( (s|min|h|test|val)\b.*)?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A header, and one or more rows of the same length. Characters that are not printable are escaped.

    Columns of numbers are right-aligned, except those with a ±: there the decimal points would not line up.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Aligned columns. A table wider than `WIDTH` truncates long cells, except in the last column.

        So a folder there can be copied.
        """
        header, *rows = self._cells()
        lines = self._align([header, *rows])
        if len(lines[0]) > WIDTH:
            lines = self._align([header, *([*map(_truncate, row[:-1]), row[-1]] for row in rows)])
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """A pipe table."""
        rule = ["---:" if side == "right" else "---" for side in self._sides()]
        header, *rows = [[re.sub(r"[|\\]", r"\\\g<0>", cell) for cell in row] for row in self._cells()]
        return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))

    def html(self, colors: Sequence[str]) -> str:
        """A table element with a dot of the given color in front of each row."""
        styles = [f'style="text-align:{side}"' for side in self._sides()]
        header, *cells = self._cells()
        dots = [f'<i style="background:{color}"></i>' for color in colors]
        rows = [_html_row("td", dot, styles, row) for dot, row in zip(dots, cells, strict=True)]
        return "\n".join(["<table>", _html_row("th", "", styles, header), *rows, "</table>"])

    def _cells(self) -> list[list[str]]:
        """The header and the rows as they are shown."""
        return [[*map(printable, row)] for row in (self.header, *self.rows)]

    def _align(self, rows: Sequence[Sequence[str]]) -> list[str]:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        formats = [f"{'>' if side == 'right' else '<'}{n}" for side, n in zip(self._sides(), widths, strict=True)]
        return ["  ".join(map(format, row, formats)) for row in rows]

    def _sides(self) -> list[str]:
        columns = zip(*self.rows, strict=True)
        return ["right" if any(column) and all(map(_NUMBER.fullmatch, column)) else "left" for column in columns]


def _html_row(tag: str, first: str, styles: Sequence[str], row: Sequence[str]) -> str:
    cells = [f"<{tag} {style}>{html.escape(cell)}" for style, cell in zip(styles, row, strict=True)]
    return f"<tr><{tag}>{first}{''.join(cells)}"


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


def csv_cell(value: object) -> object:
    """A value that a spreadsheet shows and does not calculate (owasp.org, "CSV Injection")."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NEGATIVE_NUMBER.fullmatch(text) else text


def _truncate(cell: str) -> str:
    return cell if len(cell) <= _CELL_WIDTH else f"{cell[: _CELL_WIDTH - 1]}…"
