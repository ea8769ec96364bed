"""The Plotly charts of a report."""

import html
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative, sample_colorscale

from fashion_vgg.runs.comparison import Comparison, lower_is_better
from fashion_vgg.runs.run import Run

LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
    "height": 360,
    "showlegend": False,
    "hovermode": "closest",
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
        name = html.escape(comparison.label(run))
        chart.add_scatter(
            x=[row["epoch"] for row in run.rows],
            y=[row.get(metric) for row in run.rows],
            name=name,
            mode="lines+markers",
            connectgaps=True,  # epochs without the metric, or with NaN
            line={"color": color, "width": 1.8},
            marker={"size": 5},
            hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.4f}}<extra>{run.status}</extra>",
        )
    return chart


def parallel_coordinates(comparison: Comparison) -> go.Figure:
    """One axis per setting and one for the metric, with one line per run that has a score."""
    runs = _scored_runs(comparison)
    scores = [run.score(comparison.metric) for run in runs]
    chart = go.Figure(
        go.Parcoords(
            labelfont={"size": 14},
            tickfont={"size": 12},
            rangefont={"color": "rgba(0,0,0,0)"},  # hidden: the ticks show the range
            dimensions=[
                *(_dimension(key, [run.settings.get(key, "") for run in runs]) for key in comparison.keys),
                {"label": comparison.metric, "values": scores, "tickformat": ".4~g"},
            ],
            line={
                "color": scores,
                "colorscale": WORST_TO_BEST,
                "reversescale": lower_is_better(comparison.metric),
                "showscale": True,
                "colorbar": {"title": comparison.metric, "thickness": 14},
            },
        )
    )
    margin = {"l": 80, "r": 60, "t": 100, "b": 30}
    return chart.update_layout(LAYOUT, title=f"Settings and {comparison.metric}", margin=margin, height=400)


def scatter_plot(comparison: Comparison, key: str) -> go.Figure:
    """The metric against a numeric setting, with one point per run."""
    points = [
        (run.settings[key], run.score(comparison.metric), html.escape(comparison.label(run)), color)
        for run, color in _colored_runs(comparison)
        if key in run.settings and run.score(comparison.metric) is not None
    ]
    values, scores, labels, colors = zip(*points, strict=True)
    chart = _chart(f"{comparison.metric} against {key}", key, comparison.metric)
    chart.update_xaxes(type=axis_type(values))
    if len(set(values)) <= 8:  # the chart is half as wide as parallel coordinates
        chart.update_xaxes(tickvals=[float(value) for value in set(values)], ticktext=list(set(values)))
    return chart.add_scatter(
        x=[float(value) for value in values],
        y=scores,
        text=labels,
        mode="markers",
        marker={"color": colors, "size": 10, "opacity": 0.8},
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )


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
    kind = axis_type(texts)
    if kind == "category":
        position = {name: float(index) for index, name in enumerate(names)}
    else:
        position = {name: math.log10(float(name)) if kind == "log" else float(name) for name in names}
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
