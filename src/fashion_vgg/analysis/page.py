"""Renders an analysis as one HTML file that works offline."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.55 system-ui, sans-serif; color: #222; max-width: 960px; margin: 2.5em auto; padding: 0 1.5em; }
h1 { font-size: 1.6em; margin-bottom: .2em; }
h2 { font-size: 1.15em; margin: 2.2em 0 .3em; border-bottom: 1px solid #ddd; padding-bottom: .2em; }
p { margin: .4em 0 .8em; max-width: 46em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { text-align: left; vertical-align: top; padding: .3em 1.2em .3em 0; border-bottom: 1px solid #eee; }
th { font-weight: 600; white-space: nowrap; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; margin-top: .5em; }
nav a { margin-right: 1em; }
"""

PIXELS_PER_INCH = 100
"""Of a figure on the page; its PNG has twice as many."""


@dataclass(frozen=True)
class Section:
    """A plot of the page.

    Attributes:
        name: of its PNG file.
        title: its heading.
        text: what the plot shows.
        figure: the plot.
        table: a header and rows, below the text.
    """

    name: str
    title: str
    text: str
    figure: Figure
    table: Sequence[Sequence[str]] = ()

    def png(self) -> bytes:
        """The plot at a resolution for screens with small pixels."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=2 * PIXELS_PER_INCH)
        return file.getvalue()


def render(title: str, facts: Mapping[str, str], sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """The HTML of a page: facts about the network, then the sections with the content of their PNG files."""
    rows = "\n".join(f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in facts.items())
    links = "\n".join(f'<a href="#{section.name}">{html.escape(section.title)}</a>' for section in sections)
    parts = "\n".join(_section(section, pictures[section.name]) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
<h1>{html.escape(title)}</h1>
<table>
{rows}
</table>
<nav>
{links}
</nav>
{parts}
"""


def _section(section: Section, png: bytes) -> str:
    width = round(section.figure.get_figwidth() * PIXELS_PER_INCH)
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    picture = f'<img width="{width}" src="{source}" alt="{html.escape(section.title)}">'
    return f"""<h2 id="{section.name}">{html.escape(section.title)}</h2>
<p>{html.escape(section.text)}</p>
{_table(section.table)}
{picture}"""


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    header, *body = (
        "".join(f"<{tag}>{html.escape(cell)}" for cell in row)
        for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
    )
    return "\n".join(["<table>", f"<tr>{header}", *(f"<tr>{row}" for row in body), "</table>"])
