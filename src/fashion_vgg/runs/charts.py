"""The charts of a report's page."""

import html
import math
from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go
from plotly.colors import qualitative, sample_colorscale

from fashion_vgg.runs.comparison import Comparison, figure, lower_is_better, values

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

Scale = Literal["linear", "log", "category"]


def colours(number: int) -> list[str]:
    """As many colours as there are settings, told apart as well as so many can be."""
    if number <= len(qualitative.D3):
        return list(qualitative.D3[:number])
    return [str(colour) for colour in sample_colorscale("Turbo", [0.05 + 0.9 * i / number for i in range(number)])]


def curves(comparison: Comparison, metric: str) -> go.Figure:
    """A metric by epoch, a line for each run in the colour of its setting."""
    chart = _chart(f"{metric} by epoch", "epoch", metric)
    chart.update_xaxes(dtick=1 if _epochs(comparison) <= 12 else None)
    for setting, colour in zip(comparison.settings, colours(len(comparison.settings)), strict=True):
        for run in setting.runs:
            points = [(row["epoch"], row[metric]) for row in run.rows if math.isfinite(row.get(metric, math.nan))]
            name = html.escape(comparison.name(run))
            chart.add_scatter(
                x=[epoch for epoch, _ in points],
                y=[value for _, value in points],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 1.8},
                marker={"size": 5},
                hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.4f}}<extra>{run.status}</extra>",
            )
    return chart


def parallel_coordinates(comparison: Comparison) -> go.Figure:
    """An axis for each swept parameter and one for the metric, a line for each run that has the metric."""
    scored = _scored(comparison)
    metric = [value for _, value in scored]
    chart = go.Figure(
        go.Parcoords(
            labelfont={"size": 14},
            tickfont={"size": 12},
            rangefont={"color": "rgba(0,0,0,0)"},  # the ticks say it
            dimensions=[
                *(_dimension(key, [own.get(key, "") for own, _ in scored]) for key in comparison.keys),
                {"label": comparison.metric, "values": metric, "tickformat": ".4~g"},
            ],
            line={
                "color": metric,
                "colorscale": WORST_TO_BEST,
                "reversescale": lower_is_better(comparison.metric),
                "showscale": True,
                "colorbar": {"title": comparison.metric, "thickness": 14},
            },
        )
    )
    title = f"Parameters against {comparison.metric}"
    return chart.update_layout(LAYOUT, title=title, margin={"l": 80, "r": 60, "t": 100, "b": 30}, height=400)


def scatter(comparison: Comparison, key: str) -> go.Figure:
    """The metric against a parameter of numbers, a point for each run in the colour of its setting."""
    chart = _chart(f"{comparison.metric} against {key}", key, comparison.metric)
    every = [own[key] for own, _ in _scored(comparison) if key in own]
    chart.update_xaxes(type=scale(every))
    if len(set(every)) <= 8:
        chart.update_xaxes(tickvals=[float(text) for text in set(every)], ticktext=list(set(every)))
    for setting, colour in zip(comparison.settings, colours(len(comparison.settings)), strict=True):
        scores = [(run, score) for run in setting.runs if (score := figure(run, comparison.metric)) is not None]
        if key in setting.values and scores:
            chart.add_scatter(
                x=[float(setting.values[key])] * len(scores),
                y=[score for _, score in scores],
                text=[html.escape(comparison.name(run)) for run, _ in scores],
                mode="markers",
                marker={"color": colour, "size": 10, "opacity": 0.8},
                hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
            )
    return chart


def numeric_keys(comparison: Comparison) -> list[str]:
    """The swept parameters whose values, where a run has one, are numbers."""
    scored = [own for own, _ in _scored(comparison)]
    present = {key: [own[key] for own in scored if key in own] for key in comparison.keys}
    return [key for key, texts in present.items() if texts and scale(texts) != "category"]


def scale(texts: Sequence[str]) -> Scale:
    """How values lie on an axis: as numbers, by their logarithm where they span more than a decade, or as names."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return "category"
    if not all(map(math.isfinite, numbers)):
        return "category"
    return "log" if min(numbers) > 0 and max(numbers) / min(numbers) > 10 else "linear"


def _dimension(key: str, texts: Sequence[str]) -> dict[str, Any]:
    """An axis of parallel coordinates, which has numbers alone: others are named at their place."""
    names = sorted(set(texts))
    match scale(texts):
        case "category":
            places = {name: float(place) for place, name in enumerate(names)}
        case "log":
            places = {name: math.log10(float(name)) for name in names}
        case "linear":
            places = {name: float(name) for name in names}
    ticks = names if len(names) <= 12 else sorted(names, key=places.__getitem__)[:: math.ceil(len(names) / 12)]
    return {
        "label": key,
        "values": [places[text] for text in texts],
        "tickvals": [places[name] for name in ticks],
        "ticktext": [html.escape(name) or "not set" for name in ticks],
    }


def _scored(comparison: Comparison) -> list[tuple[dict[str, str], float]]:
    every = [run for setting in comparison.settings for run in setting.runs]
    return [(values(run), score) for run in every if (score := figure(run, comparison.metric)) is not None]


def _epochs(comparison: Comparison) -> int:
    return max(len(run.rows) for setting in comparison.settings for run in setting.runs)


def _chart(title: str, x: str, y: str) -> go.Figure:
    return go.Figure().update_layout(LAYOUT, title=title, xaxis_title=x, yaxis_title=y)
