"""TensorBoard on a real sweep: what a real browser shows, and the event files."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import plugin_data_pb2
from torch_tb_profiler import io
from torch_tb_profiler.profiler.loader import RunLoader

from fashion_vgg.runs.run import Run, find_runs
from tests.conftest import Command
from tests.helpers import free_ports, wait_until
from tests.helpers.browser import open_page

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sweep(fashion_vgg: Command, tiny_with_plots: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two learning rates, with a validation split."""
    root = tmp_path_factory.mktemp("sweep")
    done = fashion_vgg("train", "-m", *tiny_with_plots, "optimizer.lr=0.05,0.1", "data.val_size=1000", root=root)
    assert done.returncode == 0, done.stderr
    [folder] = root.glob("outputs/sweeps/*/*")
    return folder


@pytest.fixture(scope="module")
def runs(sweep: Path) -> list[Run]:
    runs = find_runs(sweep)
    assert len(runs) == 2
    return runs


@pytest.fixture(scope="module")
def tensorboard(sweep: Path) -> Iterator[str]:
    """The address of a TensorBoard that has loaded the sweep."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(sweep), "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or all_runs_loaded(address), 60)
        assert process.poll() is None
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def all_runs_loaded(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/data/runs") as response:  # noqa: S310
            content = response.read()
    except OSError:
        return False
    return b"lr=0.05" in content and b"lr=0.1" in content


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page(1440) as page:
        yield page


def open_tab(page: Page, address: str, tab: str) -> None:
    page.goto(f"{address}/#{tab}")
    page.reload()  # a new fragment alone does not load the tab


def screenshot(page: Page, name: str) -> None:
    """Save a screenshot if the environment variable SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(3000)  # charts appear before their lines
        page.screenshot(path=Path(folder, f"{name}.png"))


def test_time_series_name_the_runs_by_their_overrides(runs: list[Run], tensorboard: str, page: Page) -> None:
    open_tab(page, tensorboard, "timeseries")
    assert {run.folder.name for run in runs} == {"lr=0.05", "lr=0.1"}
    for run in runs:
        expect(page.get_by_text(run.folder.name).first).to_be_visible()
    # The first groups are open, and have the curves of train, val and test.
    for chart in ("accuracy/train", "accuracy/val", "accuracy/test", "loss/train"):
        expect(page.get_by_text(chart, exact=True).first).to_be_attached()
    groups = page.locator("card-group-toolbar, .group-title-wrapper")
    expect(groups.filter(has_text="training").first).to_be_attached()  # the last one
    names = [re.findall("[a-z]+", text)[0] for text in groups.all_inner_texts()]
    assert list(dict.fromkeys(names)) == ["accuracy", "loss", "plots", "training"]
    screenshot(page, "timeseries")


def test_the_hparams_table_shows_learning_rates_and_best_accuracies(
    runs: list[Run], tensorboard: str, page: Page
) -> None:
    open_tab(page, tensorboard, "hparams")
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page.get_by_text("lr", exact=True).first).to_be_visible()
    # The accessibility tree, because the texts are not inside the cells.
    header, *rows = page.get_by_role("grid").aria_snapshot().split("- row ")[1:]
    columns = re.findall(r'- columnheader "(.*)"', header)
    for run in runs:
        [row] = [row for row in rows if run.folder.name in row]
        cells = dict(zip(columns, re.findall(r'- gridcell(?: "(.*)")?', row), strict=True))
        assert float(cells["lr"]) == float(run.folder.name.removeprefix("lr="))
        for metric, name in (("val/acc", "accuracy/val, best epoch"), ("test/acc", "accuracy/test")):
            # TensorBoard stores float32 and shows at least five digits.
            assert float(cells[name]) == pytest.approx(run.summary["best"][metric], abs=1e-5)
        assert "-1.0000" not in cells.values()
    screenshot(page, "hparams")


def test_custom_scalars_show_train_and_evaluation_in_one_chart(tensorboard: str, page: Page) -> None:
    open_tab(page, tensorboard, "custom_scalars")
    expect(page.get_by_text("train, val and test").first).to_be_visible()
    for title in ("loss", "accuracy"):
        expect(page.get_by_text(title, exact=True).first).to_be_visible()
    screenshot(page, "custom_scalars")


def test_images_show_the_plots(tensorboard: str, page: Page) -> None:
    open_tab(page, tensorboard, "images")
    for tag in ("plots/result", "plots/confusion", "plots/mistakes"):
        expect(page.get_by_text(tag, exact=True).first).to_be_attached()


def load_events(folder: Path) -> Any:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def steps(folder: Path, tag: str) -> list[int]:
    return [point.step for point in load_events(folder).Scalars(tag)]


def hyperparameters(events: Any) -> dict[str, Any]:
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in values.items()}


def test_event_files_contain_hyperparameters_and_metrics(runs: list[Run]) -> None:
    events = [load_events(run.folder) for run in runs]
    assert len({frozenset(hyperparameters(content)) for content in events}) == 1
    for run, content in zip(runs, events, strict=True):
        values = hyperparameters(content)
        assert f"lr={values['lr']}" == run.folder.name
        assert (values["model"], values["val_size"], values["ratio"]) == ("vgg5_light", 1000, 4)
        scalars = {tag: content.Scalars(tag) for tag in content.Tags()["scalars"]}
        # Event files store float32.
        assert scalars["accuracy/val"][-1].value == pytest.approx(run.summary["final"]["val/acc"])
        assert scalars["accuracy/val, best epoch"][-1].value == pytest.approx(run.summary["best"]["val/acc"])
        assert scalars["accuracy/test"][-1].value == pytest.approx(run.summary["best"]["test/acc"])
        assert all(point.value >= 0 for points in scalars.values() for point in points)
        assert all(len(points) == 2 for points in scalars.values())  # a chart of one point shows nothing


def test_event_files_contain_plots_and_a_layout_and_are_small(runs: list[Run]) -> None:
    for run in runs:
        content = load_events(run.folder)
        layout = Layout.FromString(content.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
        assert [chart.title for chart in layout.category[0].chart] == ["loss", "accuracy"]
        assert set(content.Tags()["images"]) == {"plots/result", "plots/confusion", "plots/mistakes"}
        [result] = content.Images("plots/result")
        with Image.open(BytesIO(result.encoded_image_string)) as ours, Image.open(run.folder / "result.png") as file:
            assert ImageChops.difference(ours, file).getbbox() is None
        size = sum(path.stat().st_size for path in run.folder.glob("events*"))
        assert size < 300_000  # bytes; TensorBoard loads two hundred of them in seconds


def test_a_resumed_run_continues_its_curves(fashion_vgg: Command, runs: list[Run], tmp_path: Path) -> None:
    run = shutil.copytree(runs[0].folder, tmp_path / "run")
    every_second_step = "+callbacks.steps={_target_:fashion_vgg.training.StepCurves,folder:'${output_dir}',every:2}"
    for epochs, overrides in ((3, [every_second_step]), (4, [])):
        done = fashion_vgg("train", f"resume={run}", f"trainer.max_epochs={epochs}", *overrides, root=tmp_path)
        assert done.returncode == 0, done.stderr
        assert steps(run, "accuracy/val") == list(range(1, epochs + 1))
        assert steps(run, "accuracy/test")[-2:] == [epochs - 1, epochs]
        assert steps(run, "accuracy/test") == sorted(steps(run, "accuracy/test"))
    # Eight steps per epoch, recorded from the third epoch on.
    assert steps(run / "steps", "loss/train") == list(range(18, 33, 2))


def test_each_optional_view_takes_one_override(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    views = ["callbacks.histograms.every=2", "callbacks.filters.every=1", "logger.tensorboard.log_graph=true"]
    done = fashion_vgg("train", *tiny, *views, root=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    [run] = tmp_path.glob("outputs/train/*/*")
    content = load_events(run)
    tags = content.Tags()
    parameters = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    names = {name.removeprefix("net.") for name in parameters if name.endswith(("weight", "bias"))}
    assert set(tags["histograms"]) == {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    assert [point.step for point in content.Histograms(tags["histograms"][0])] == [2]
    assert [point.step for point in content.Images("plots/filters of the first layer")] == [1, 2]
    assert tags["graph"]


@pytest.mark.thorough
def test_a_trace_is_listed_by_the_profilers_tab(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    done = fashion_vgg("train", *tiny, "debug=trace", root=tmp_path)
    assert done.returncode == 0, done.stderr
    [run] = tmp_path.glob("outputs/train/*/*")
    traces = RunLoader(run.name, str(run), io.Cache()).load()
    assert traces.profiles
