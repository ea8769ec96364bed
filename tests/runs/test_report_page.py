"""The report's page in a real browser."""

from collections.abc import Iterator
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
    for index, text in enumerate(("<script>throw 1</script>", "</script><b>")):
        finish(tmp_path / "runs" / str(index), [f"model={text}"], 0.9)
    charts = load(browser, render(compare(tmp_path / "runs")), tmp_path / "page.html")
    assert len(charts) == 3  # a category has no scatter plot


@pytest.mark.long
def test_runs_without_metrics_have_no_charts(browser: Browser, tmp_path: Path) -> None:
    leave(tmp_path / "runs" / "a", ["seed=0"])
    assert load(browser, render(compare(tmp_path / "runs")), tmp_path / "page.html") == []


def test_the_axis_type_depends_on_the_values() -> None:
    assert report_charts.axis_type(["0.01", "0.1", "1"]) == "log"
    assert report_charts.axis_type(["1", "2", "10"]) == "linear"
    assert report_charts.axis_type(["0", "100"]) == "linear"
    for names in (["vgg11", "1"], ["", "1"], ["nan", "1"]):
        assert report_charts.axis_type(names) == "category"
