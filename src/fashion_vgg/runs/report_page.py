"""Renders a comparison as one HTML file that works offline."""

import html
from collections.abc import Iterable

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from fashion_vgg.errors import printable
from fashion_vgg.runs import report_charts
from fashion_vgg.runs.comparison import Comparison, scores

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.5em; margin-bottom: .3em; }
p { margin: .2em 0; color: #555; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1.2em 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .9em; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { border-bottom: 2px solid #bbb; font-weight: 600; }
td i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 1em; }
@media (max-width: 800px) { .charts { grid-template-columns: 1fr; } }
.charts > div { min-width: 0; }
"""


def render(comparison: Comparison) -> str:
    """The HTML of a page with the table, the learning curves, and the settings against the metric."""
    title = html.escape(printable("/".join(comparison.folder.absolute().parts[-2:])))
    notes = "\n".join(f"<p>{html.escape(note)}</p>" for note in comparison.notes())
    colors = report_charts.group_colors(len(comparison.groups))
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script>
<h1>{title}</h1>
{notes}
<div class="wide">
{comparison.table().html(colors)}
</div>
{_charts(comparison)}
"""


def _charts(comparison: Comparison) -> str:
    """The charts that the runs have data for."""
    logged = {name for run in comparison.runs for row in run.rows for name in row}
    metrics = [name for name in dict.fromkeys([comparison.metric, "train/loss"]) if name in logged]
    parts = [_two_columns(report_charts.learning_curves(comparison, metric) for metric in metrics)]
    if comparison.keys and scores(comparison.groups[0], comparison.metric):
        parts.append(_to_html(report_charts.parallel_coordinates(comparison)))
        keys = report_charts.numeric_keys(comparison)
        parts.append(_two_columns(report_charts.scatter_plot(comparison, key) for key in keys))
    return "\n".join(parts)


def _two_columns(charts: Iterable[go.Figure]) -> str:
    return f'<div class="charts">{"".join(f"<div>{_to_html(chart)}</div>" for chart in charts)}</div>'


def _to_html(chart: go.Figure) -> str:
    config = {"displaylogo": False, "responsive": True}
    return str(chart.to_html(full_html=False, include_plotlyjs=False, config=config))
