"""The Plotly charts of a report."""

import html
import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.colors import qualitative, sample_colorscale

from fashion_vgg.config.names import short_names
from fashion_vgg.errors import printable
from fashion_vgg.runs.comparison import Comparison, lower_is_better
from fashion_vgg.runs.run import Run

plotly.io.json.config.default_engine = "json"  # orjson refuses a folder's name that is not UTF-8

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
MAX_LABEL = 24  # characters of a tick's label
SPREAD = 0.25  # of the distance between two values: how far the lines at a value are spread to either side


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
    """One axis per setting, then one for the metric, with one line per run that has a score.

    The color bar is beside the metric's axis and as high: it has the ticks, which the lines would cross on the axis.
    """
    metric, runs = comparison.metric, _scored_runs(comparison)
    scores = [score for run in runs if (score := run.score(metric)) is not None]
    names = short_names(comparison.keys)
    axes = [_dimension(name, [run.settings.get(key, "") for run in runs], scores) for key, name in names.items()]
    # Room for the labels of the first axis: its ticks are to the left of it, its name is centred above.
    left = max(40 + 7 * max(map(len, axes[0].get("ticktext", ["0.1234"]))), 4 * len(axes[0]["label"]))
    axes.append({"label": metric, "values": scores, "tickvals": [min(scores), max(scores)], "ticktext": ["", ""]})
    line = {"color": scores, "colorscale": WORST_TO_BEST, "reversescale": lower_is_better(metric)}
    line |= {"showscale": True, "colorbar": {"thickness": 14, "len": 1, "ypad": 0, "tickformat": ".4~g"}}
    chart = go.Figure(go.Parcoords(dimensions=axes, line=line, labelfont_size=13, tickfont_size=12))
    chart.update_traces(rangefont_color="rgba(0,0,0,0)")  # hidden: the ticks show the range
    chart.update_traces(labelangle=-12 if len(axes) > 5 else 0)  # long labels side by side overlap
    margin = {"l": left, "r": 20, "t": 110, "b": 30}
    return chart.update_layout(LAYOUT, title=f"Settings and {metric}", margin=margin, height=460)


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


def _dimension(key: str, texts: Sequence[str], scores: Sequence[float]) -> dict[str, Any]:
    """An axis of parallel coordinates: a run's value, and its score to tell it from runs with the same value."""
    places, ticks = _scale(texts)
    return {"label": key, "values": _spread(places, scores), **ticks}


def _scale(texts: Sequence[str]) -> tuple[list[float], dict[str, Any]]:
    """Places of values on an axis, and its ticks. Categories, and numbers if they are few, are at equal distances."""
    kind, names = axis_type(texts), sorted(set(texts))
    if kind == "category" or len(names) <= MAX_TICKS:
        names.sort(key=str if kind == "category" else float)
        shown = names[:: math.ceil(len(names) / MAX_TICKS)]
        ticks = {"tickvals": list(map(names.index, shown)), "ticktext": list(map(_tick_label, shown))}
        return [names.index(text) for text in texts], ticks
    numbers = list(map(float, texts))
    if kind == "linear":
        return numbers, {"tickformat": ".4~g"}
    powers = range(math.floor(math.log10(min(numbers))), math.floor(math.log10(max(numbers))) + 1)
    candidates = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    inside = [number for number in candidates if min(numbers) <= number <= max(numbers)]
    ticks = {"tickvals": list(map(math.log10, inside)), "ticktext": [f"{number:g}" for number in inside]}
    return list(map(math.log10, numbers)), ticks


def _spread(places: Sequence[float], scores: Sequence[float]) -> list[float]:
    """Move runs at the same place apart, so that their lines can be followed: the higher score above.

    A place stays nearer to its runs than to those of the next place.
    """
    runs = sorted(range(len(places)), key=lambda run: (places[run], scores[run]))
    groups = [list(group) for _, group in groupby(runs, key=places.__getitem__)]
    gap = min((places[upper[0]] - places[lower[0]] for lower, upper in pairwise(groups)), default=1.0)
    step = 2 * SPREAD * gap / max(map(len, groups))
    offsets = {run: (rank - (len(group) - 1) / 2) * step for group in groups for rank, run in enumerate(group)}
    return [place + offsets[run] for run, place in enumerate(places)]


def _tick_label(name: str) -> str:
    """Not escaped: unlike other charts, parallel coordinates take it as text."""
    return f"{name[: MAX_LABEL - 1]}…" if len(name) > MAX_LABEL else name or "not set"


def _scored_runs(comparison: Comparison) -> list[Run]:
    return [run for run in comparison.runs if run.score(comparison.metric) is not None]


def _colored_runs(comparison: Comparison) -> list[tuple[Run, str]]:
    colors = group_colors(len(comparison.groups))
    return [(run, color) for group, color in zip(comparison.groups, colors, strict=True) for run in group]


def _chart(title: str, x: str, y: str) -> go.Figure:
    title, x, y = (html.escape(printable(text)) for text in (title, x, y))  # Plotly takes some tags
    return go.Figure().update_layout(LAYOUT, title=title, xaxis_title=x, yaxis_title=y)
