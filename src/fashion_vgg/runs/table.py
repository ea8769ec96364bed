"""Rows of text as a terminal, Markdown or HTML shows them."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 120
"""Of a terminal, in characters."""
_CELL = 40
_NUMBER = re.compile(r"(-?[\d.,]+(e[+-]?\d+)?( (s|min|h|test|val)\b.*)?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A header, and rows as long as it; a column of numbers goes to the right.

    One with a ± stays at the left, or a mean without it would stand under the deviations.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Columns of one width, for a terminal: where they are wider than it, keys and long values are shortened.

        The last column is whole, so that a folder in it can be copied.
        """
        if len(self._lines(self.header)[0]) <= WIDTH:
            return "\n".join(line.rstrip() for line in self._lines(self.header))
        rows = [[*map(_cut, row[:-1]), row[-1]] for row in self.rows]
        return "\n".join(line.rstrip() for line in Table(self.header, rows)._lines(short(self.header)))

    def markdown(self) -> str:
        """A pipe table."""
        rule = ["---:" if right else "---" for right in self._right()]
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))

    def html(self, colours: Sequence[str] = ()) -> str:
        """A table element; with a colour for each row it stands as a dot before the row."""
        sides = ["right" if right else "left" for right in self._right()]
        dots = [f'<td><i style="background:{colour}"></i></td>' for colour in colours] or [""] * len(self.rows)
        lines = ["<table>", "<tr>" + "<th></th>" * bool(colours) + _cells("th", self.header, sides)]
        lines += [f"<tr>{dot}{_cells('td', row, sides)}" for dot, row in zip(dots, self.rows, strict=True)]
        return "\n".join([*lines, "</table>"])

    def _lines(self, header: Sequence[str]) -> list[str]:
        cells = [header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        sides = [">" if right else "<" for right in self._right()]
        return [
            "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
            for row in cells
        ]

    def _right(self) -> list[bool]:
        return [
            all(map(_NUMBER.fullmatch, column)) and any(column)
            for column in (zip(*self.rows, strict=True) if self.rows else [[""]] * len(self.header))
        ]


def short(names: Sequence[str]) -> list[str]:
    """Dotted names by their ends, as far as these still tell them apart."""
    ends = [name.rpartition(".")[2] for name in names]
    return [end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)]


def _cut(cell: str) -> str:
    return cell if len(cell) <= _CELL else f"{cell[: _CELL - 1]}…"


def _cells(kind: str, row: Sequence[str], sides: Sequence[str]) -> str:
    return "".join(f'<{kind} class="{side}">{html.escape(cell)}' for cell, side in zip(row, sides, strict=True))
