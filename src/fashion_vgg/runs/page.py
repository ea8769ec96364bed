"""A report as one HTML file, which needs no network."""

import html
from typing import Any

from plotly.offline import get_plotlyjs

from fashion_vgg.runs import charts, settings_table
from fashion_vgg.runs.comparison import Comparison

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1200px; margin: 2em auto;
       padding: 0 1.5em; }
h1 { font-size: 1.5em; margin-bottom: .3em; }
p { margin: .2em 0; color: #555; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1.2em 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .9em; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { border-bottom: 2px solid #bbb; font-weight: 600; }
.left { text-align: left; }
.right { text-align: right; }
td i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 1em; }
@media (max-width: 800px) { .charts { grid-template-columns: 1fr; } }
.charts > div { min-width: 0; }
"""


def page(comparison: Comparison) -> str:
    """The page: the table, the curves of all runs, the swept parameters against the metric."""
    title = html.escape("/".join(comparison.folder.absolute().parts[-2:]))
    notes = "\n".join(f"<p>{html.escape(note)}</p>" for note in settings_table.notes(comparison))
    colours = charts.colours(len(comparison.settings))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{title}</h1>
{notes}
<div class="wide">
{settings_table.table(comparison).html(colours)}
</div>
{_charts(comparison)}
</body>
</html>
"""


def _charts(comparison: Comparison) -> str:
    """The elements of all charts that the runs have figures for."""
    recorded = {name for setting in comparison.settings for run in setting.runs for row in run.rows for name in row}
    metrics = [name for name in dict.fromkeys([comparison.metric, "train/loss"]) if name in recorded]
    parts = [_side_by_side([charts.curves(comparison, metric) for metric in metrics])]
    if comparison.keys and any(setting.figures(comparison.metric) for setting in comparison.settings):
        parts.append(_element(charts.parallel_coordinates(comparison)))
        against = [charts.scatter(comparison, key) for key in charts.numeric_keys(comparison)]
        parts.append(_side_by_side(against))
    return "\n".join(parts)


def _side_by_side(charts: list[Any]) -> str:
    return f'<div class="charts">{"".join(f"<div>{_element(chart)}</div>" for chart in charts)}</div>'


def _element(chart: Any) -> str:
    config = {"displaylogo": False, "responsive": True}
    return str(chart.to_html(full_html=False, include_plotlyjs=False, config=config))
