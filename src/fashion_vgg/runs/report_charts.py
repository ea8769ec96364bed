"""The Plotly charts of a report."""

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative, sample_colorscale

from fashion_vgg.config.names import short_names
from fashion_vgg.runs.comparison import Comparison, lower_is_better
from fashion_vgg.runs.run import Run

LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
    "height": 360,
    "showlegend": False,
}
WORST_TO_BEST = ["#e8a33d", "#c8553d", "#1b3a6b"]
"""Dark enough for thin lines on white."""
MAX_TICKS = 12


def group_colors(number: int) -> list[str]:
    """A color for each group of runs, as distinct as possible."""
    if number <= len(qualitative.D3):
        return list(qualitative.D3[:number])
    return list(sample_colorscale("Turbo", number + 2)[1:-1])  # without the ends, which are almost black


def learning_curves(comparison: Comparison, metric: str) -> go.Figure:
    """A metric by epoch, with one line per run."""
    chart = _chart(f"{metric} by epoch", "epoch", metric)
    if max(len(run.rows) for run in comparison.runs) <= MAX_TICKS:
        chart.update_xaxes(dtick=1)
    for run, color in _colored_runs(comparison):
        epochs, values = [row["epoch"] for row in run.rows], [row.get(metric) for row in run.rows]
        name = html.escape(comparison.label(run))
        hover = f"{name}<br>epoch %{{x}}: %{{y:.4f}}<extra>{run.status}</extra>"
        chart.add_scatter(x=epochs, y=values, name=name, line_color=color, hovertemplate=hover)
    # Gaps are epochs without the metric, or with NaN.
    return chart.update_traces(mode="lines+markers", line_width=1.8, marker_size=5, connectgaps=True)


def parallel_coordinates(comparison: Comparison) -> go.Figure:
    """One axis per setting and one for the metric, with one line per run that has a score."""
    metric, runs = comparison.metric, _scored_runs(comparison)
    scores = [run.score(metric) for run in runs]
    names = short_names(comparison.keys)
    axes = [_dimension(name, [run.settings.get(key, "") for run in runs]) for key, name in names.items()]
    axes.append({"label": metric, "values": scores, "tickformat": ".4~g"})
    line = {"color": scores, "colorscale": WORST_TO_BEST, "reversescale": lower_is_better(metric)}
    line |= {"showscale": True, "colorbar": {"title": metric, "thickness": 14}}
    chart = go.Figure(go.Parcoords(dimensions=axes, line=line, labelfont_size=14, tickfont_size=12))
    chart.update_traces(rangefont_color="rgba(0,0,0,0)")  # hidden: the ticks show the range
    margin = {"l": 80, "r": 60, "t": 100, "b": 30}
    return chart.update_layout(LAYOUT, title=f"Settings and {metric}", margin=margin, height=400)


def scatter_plot(comparison: Comparison, key: str) -> go.Figure:
    """The metric against a numeric setting, with one point per run."""
    metric = comparison.metric
    points = [
        (run.settings[key], run.score(metric), html.escape(comparison.label(run)), color)
        for run, color in _colored_runs(comparison)
        if key in run.settings and run.score(metric) is not None
    ]
    texts, scores, labels, colors = zip(*points, strict=True)
    chart = _chart(f"{metric} against {key}", key, metric).update_xaxes(type=axis_type(texts))
    if len(set(texts)) <= 8:  # the chart is half as wide as parallel coordinates
        chart.update_xaxes(tickvals=list(map(float, set(texts))), ticktext=list(set(texts)))
    chart.add_scatter(x=list(map(float, texts)), y=scores, text=labels, mode="markers", marker_color=colors)
    hover = "%{text}<br>%{y:.4f}<extra></extra>"
    return chart.update_traces(marker_size=10, marker_opacity=0.8, hovertemplate=hover)


def numeric_keys(comparison: Comparison) -> list[str]:
    """The settings that can be the x-axis of a scatter plot."""
    runs = _scored_runs(comparison)
    values = {key: [run.settings[key] for run in runs if key in run.settings] for key in comparison.keys}
    return [key for key, texts in values.items() if texts and axis_type(texts) != "category"]


def axis_type(texts: Sequence[str]) -> str:
    """Plotly's axis type: ``category``, ``linear``, or ``log`` for positive values that span more than a decade."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return "category"
    if not all(map(math.isfinite, numbers)):
        return "category"
    return "log" if min(numbers) > 0 and max(numbers) / min(numbers) > 10 else "linear"


def _dimension(key: str, texts: Sequence[str]) -> dict[str, Any]:
    """An axis of parallel coordinates. It takes numbers only: log and category axes need their own ticks."""
    names = sorted(set(texts))
    scales: dict[str, Callable[[str], float]] = {
        "category": names.index,
        "linear": float,
        "log": lambda name: math.log10(float(name)),
    }
    position = {name: scales[axis_type(texts)](name) for name in names}
    ticks = sorted(names, key=position.__getitem__)[:: math.ceil(len(names) / MAX_TICKS)]
    return {
        "label": key,
        "values": [position[text] for text in texts],
        "tickvals": [position[name] for name in ticks],
        "ticktext": [html.escape(name) or "not set" for name in ticks],
    }


def _scored_runs(comparison: Comparison) -> list[Run]:
    return [run for run in comparison.runs if run.score(comparison.metric) is not None]


def _colored_runs(comparison: Comparison) -> list[tuple[Run, str]]:
    colors = group_colors(len(comparison.groups))
    return [(run, color) for group, color in zip(comparison.groups, colors, strict=True) for run in group]


def _chart(title: str, x: str, y: str) -> go.Figure:
    return go.Figure().update_layout(LAYOUT, title=title, xaxis_title=x, yaxis_title=y)
