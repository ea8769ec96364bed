"""The report's page in a real browser."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from fashion_vgg.runs import report_charts
from fashion_vgg.runs.comparison import compare
from fashion_vgg.runs.report_page import render
from tests.helpers import finish, leave
from tests.helpers.browser import chromium
from tests.runs.conftest import ACCURACIES


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def load(browser: Browser, html: str, file: Path) -> list[dict[str, Any]]:
    """Open a page, check that it has no errors and loads nothing else, and return its charts."""
    requests: list[str] = []
    errors: list[str] = []
    file.write_text(html)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(file.as_uri())
    page.wait_for_function("[...document.querySelectorAll('.plotly-graph-div')].every(d => d._fullLayout)")
    charts: list[dict[str, Any]] = page.evaluate(
        "[...document.querySelectorAll('.plotly-graph-div')].map(d => ({traces: d.data, x: d.layout.xaxis,"
        " fits: d.querySelector('.main-svg').clientWidth <= d.parentElement.clientWidth + 1,"
        " ticks: [...d.querySelectorAll('.parcoords .axis text')].map(text => text.textContent).filter(text => text),"
        " lines: d.querySelectorAll('.scatterlayer path.js-line').length,"
        " points: d.querySelectorAll('.scatterlayer path.point').length}))"
    )
    page.close()
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    assert errors == []
    return charts


@pytest.mark.long
def test_the_charts_show_every_run(browser: Browser, sweep: Path, tmp_path: Path) -> None:
    charts = load(browser, render(compare(sweep)), tmp_path / "page.html")
    assert all(chart["fits"] for chart in charts)
    accuracy, loss, parallel, scatter = charts
    finished = {f"lr={lr} seed={i}" for lr, values in ACCURACIES.items() for i in range(len(values))}
    for chart in (accuracy, loss):
        assert {trace["name"] for trace in chart["traces"]} == finished | {
            "lr=1 seed=1",
            "lr=5 seed=0",
        }
        assert (chart["lines"], chart["points"]) == (len(finished), 2 * len(finished))
    assert [axis["label"] for axis in parallel["traces"][0]["dimensions"]] == ["lr", "test/acc"]
    assert (scatter["x"]["type"], scatter["points"]) == ("log", len(finished))


@pytest.mark.long
def test_overrides_are_escaped(browser: Browser, tmp_path: Path) -> None:
    names = ["</script><b>", "<script>throw 1</script>"]
    for index, text in enumerate(names):
        finish(tmp_path / "runs" / str(index), [f"model={text}"], 0.9)
    charts = load(browser, render(compare(tmp_path / "runs")), tmp_path / "page.html")
    _, _, parallel = charts  # a category has no scatter plot
    assert parallel["ticks"] == names


@pytest.mark.long
def test_runs_without_metrics_have_no_charts(browser: Browser, tmp_path: Path) -> None:
    leave(tmp_path / "runs" / "a", ["seed=0"])
    assert load(browser, render(compare(tmp_path / "runs")), tmp_path / "page.html") == []


SETTINGS = [("vgg11", "0.01", "64"), ("vgg11", "0.1", "128"), ("alexnet", "0.02", "64"), ("alexnet", "0.1", "128")]


def parallel(folder: Path, *runs: tuple[dict[str, str], float]) -> tuple[list[Any], Any]:
    """The axes of the parallel coordinates of runs with these settings and scores, and the lines' style."""
    for number, (settings, accuracy) in enumerate(runs):
        finish(folder / f"{number:02}", [f"{key}={value}" for key, value in settings.items()], accuracy)
    comparison = compare(folder)
    [trace] = report_charts.parallel_coordinates(comparison).data
    scored = [run for run in comparison.runs if run.score("test/acc") is not None]
    labels = [key.rpartition(".")[2] for key in comparison.keys]
    assert [axis.label for axis in trace.dimensions] == [*labels, "test/acc"]
    assert list(trace.dimensions[-1].values) == list(trace.line.color) == [run.score("test/acc") for run in scored]
    texts = [[run.settings.get(key, "") for run in scored] for key in comparison.keys]
    return list(zip(trace.dimensions[:-1], texts, strict=True)), trace


def test_each_line_is_at_its_values_and_no_lines_coincide(tmp_path: Path) -> None:
    keys = ("model", "optimizer.lr", "batch_size")
    grid = [dict(zip(keys, values, strict=True)) for values in SETTINGS]
    repeated = [({**settings, "seed": str(seed)}, 0.9) for settings in grid for seed in range(5)]  # equal scores
    axes, _ = parallel(tmp_path / "runs", *repeated)
    assert [list(axis.ticktext) for axis, _ in axes] == [["alexnet", "vgg11"], ["0.01", "0.02", "0.1"], ["64", "128"]]
    for axis, texts in axes:
        tick = dict(zip(axis.ticktext, axis.tickvals, strict=True))
        gap = min(high - low for low, high in pairwise(axis.tickvals))
        assert all(abs(value - tick[text]) <= gap / 4 for value, text in zip(axis.values, texts, strict=True))
        assert len(set(axis.values)) == len(repeated)


def test_lines_with_the_same_value_are_in_the_order_of_their_scores(tmp_path: Path) -> None:
    accuracies = [0.7, 0.9, 0.8]
    runs = [({"model": model, "seed": str(i)}, acc) for model in ("a", "b") for i, acc in enumerate(accuracies)]
    [(axis, texts)], trace = parallel(tmp_path / "runs", *runs)
    order = sorted(zip(texts, trace.line.color, axis.values, strict=True))
    assert [value for _, _, value in order] == sorted(axis.values)


def test_many_numbers_are_at_their_place_with_round_ticks(tmp_path: Path) -> None:
    numbers = [0.013 * 1.2345678**i for i in range(20)]
    runs = [({"optimizer.lr": str(number), "model.dropout": str(number / 2 + 0.3)}, 0.9) for number in numbers]
    [(log, rates), (linear, shares)], _ = parallel(tmp_path / "runs", *runs)
    assert list(log.ticktext) == ["0.02", "0.05", "0.1", "0.2", "0.5"]
    assert list(log.tickvals) == pytest.approx([math.log10(float(text)) for text in log.ticktext])
    assert list(log.values) == pytest.approx([math.log10(float(text)) for text in rates])
    assert list(linear.values) == pytest.approx([float(text) for text in shares])
    assert (linear.tickvals, linear.tickformat) == (None, ".4~g")  # Plotly chooses them


def test_long_labels_are_shortened(tmp_path: Path) -> None:
    name = "<kernels/three_3x3_linear_and_more>"
    [(axis, _)], _ = parallel(tmp_path / "runs", ({"experiment": name}, 0.9), ({}, 0.8))
    assert list(axis.ticktext) == ["not set", "<kernels/three_3x3_line…"]


def test_the_axis_type_depends_on_the_values() -> None:
    assert report_charts.axis_type(["0.01", "0.1", "1"]) == "log"
    assert report_charts.axis_type(["1", "2", "10"]) == "linear"
    assert report_charts.axis_type(["0", "100"]) == "linear"
    for names in (["vgg11", "1"], ["", "1"], ["nan", "1"]):
        assert report_charts.axis_type(names) == "category"
