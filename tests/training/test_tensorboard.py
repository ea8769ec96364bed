"""What TensorBoard shows of a sweep: in a real browser, and in the events that it reads."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import plugin_data_pb2

from fashion_vgg.runs.run import find_runs
from tests.conftest import Command

pytestmark = pytest.mark.long

SHOTS = Path(os.environ.get("SCREENSHOTS", "outputs/screenshots"))
"""Where the screenshots go."""


@pytest.fixture(scope="module")
def sweep(fashion_vgg: Command, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two learning rates, with a validation split."""
    root = tmp_path_factory.mktemp("sweep")
    few = ["optimizer.lr=0.05,0.1", "trainer.max_epochs=3", "data.val_size=1000"]
    done = fashion_vgg("train", "-m", *tiny, *few, root=root)
    assert done.returncode == 0, done.stderr
    [folder] = root.glob("outputs/sweeps/*/*")
    return folder


@pytest.fixture(scope="module")
def tensorboard(sweep: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(sweep), "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{address}/data/runs") as answer:  # noqa: S310
                if b"0.05" in answer.read():
                    break
        except OSError:
            assert process.poll() is None
        time.sleep(0.1)
    yield address
    process.send_signal(signal.SIGTERM)
    process.wait(30)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: install it (on Debian: apt install chromium)")
        pytest.skip("Chromium is missing")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def names(sweep: Path) -> list[str]:
    return [run.folder.name for run in find_runs(sweep)]


def test_the_charts_name_both_runs_by_their_overrides(sweep: Path, tensorboard: str, page: Page) -> None:
    page.goto(f"{tensorboard}/#timeseries")
    for name in names(sweep):
        assert re.search(r"optimizer\.lr=0\.\d+,", name)
        expect(page.get_by_text(name).first).to_be_visible()
    for tag in ("train", "val", "test"):
        expect(page.get_by_text(re.compile(rf"^{tag}/?$")).first).to_be_attached()
    page.wait_for_timeout(3000)  # the lines come after their charts
    page.screenshot(path=SHOTS / "scalars.png")


def test_the_hparams_table_has_the_learning_rates_and_the_final_accuracies(
    sweep: Path, tensorboard: str, page: Page
) -> None:
    page.goto(f"{tensorboard}/#hparams")
    page.reload()
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page.get_by_text("optimizer.lr").first).to_be_visible()
    # As a screen reader has it: the cells' texts are not inside the cells.
    header, *rows = page.get_by_role("grid").aria_snapshot().split("- row ")[1:]
    columns = re.findall(r'- columnheader "(.*)"', header)
    for run in find_runs(sweep):
        [row] = [row for row in rows if run.folder.name in row]
        shown = dict(zip(columns, re.findall(r'- gridcell(?: "(.*)")?', row), strict=True))
        [rate] = re.findall(r"optimizer\.lr=(0\.\d+),", run.folder.name)
        assert float(shown["optimizer.lr"]) == float(rate)
        for name in ("val/acc", "test/acc"):
            assert float(shown[f"best/{name}"]) == pytest.approx(run.summary["best"][name], abs=1e-5)
        assert "-1.0000" not in shown.values()
    page.screenshot(path=SHOTS / "hparams.png")


def test_train_and_evaluation_share_a_chart(tensorboard: str, page: Page) -> None:
    page.goto(f"{tensorboard}/#custom_scalars")
    page.reload()
    expect(page.get_by_text("train, val and test").first).to_be_visible()
    for title in ("loss", "accuracy"):
        expect(page.get_by_text(title, exact=True).first).to_be_visible()
    page.wait_for_timeout(3000)
    page.screenshot(path=SHOTS / "custom_scalars.png")


def test_the_pictures_are_there(tensorboard: str, page: Page) -> None:
    page.goto(f"{tensorboard}/#images")
    page.reload()
    for tag in ("result", "test/confusion", "test/mistakes"):
        expect(page.get_by_text(tag, exact=True).first).to_be_attached()


def events(run: Path) -> Any:
    return EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()


def hyperparameters(events: Any) -> dict[str, Any]:
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in values.items()}


def test_the_events_say_what_they_should(sweep: Path) -> None:
    every = {run: events(run.folder) for run in find_runs(sweep)}
    keys = set()
    for run, content in every.items():
        shown = hyperparameters(content)
        keys.add(frozenset(shown))
        assert f"optimizer.lr={shown['optimizer.lr']}," in run.folder.name
        assert (shown["model"], shown["data.val_size"], shown["model.ratio"]) == ("vgg5_light", 1000, 4)
        last = {tag: content.Scalars(tag)[-1] for tag in content.Tags()["scalars"]}
        assert last["val/acc"].value == pytest.approx(run.summary["final"]["val/acc"])
        assert last["best/val/acc"].value == pytest.approx(run.summary["best"]["val/acc"])
        assert last["best/test/acc"].value == pytest.approx(run.summary["best"]["test/acc"])
        assert all(point.value >= 0 for tag in last for point in content.Scalars(tag))
        layout = Layout.FromString(content.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
        assert [chart.title for chart in layout.category[0].chart] == ["loss", "accuracy"]
        assert set(content.Tags()["images"]) == {"result", "test/confusion", "test/mistakes"}
        size = sum(path.stat().st_size for path in run.folder.glob("events*"))
        assert size < 300_000  # bytes; two hundred such runs are read in seconds
    assert len(keys) == 1


def test_a_resumed_run_with_curves_by_the_step_goes_on_in_them(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    by_step = "{_target_:fashion_vgg.training.StepCurves,folder:'${output_dir}',every:2}"
    first = fashion_vgg("train", *tiny, "trainer.max_epochs=1", f"+callbacks.step_curves={by_step}", root=tmp_path)
    assert first.returncode == 0, first.stderr
    [run] = tmp_path.glob("outputs/train/*/*")
    again = fashion_vgg("train", f"resume={run}", "trainer.max_epochs=3", root=tmp_path)
    assert again.returncode == 0, again.stderr
    for folder, tag, steps in ((run, "test/acc", [1, 2, 3]), (run / "steps", "train/loss", list(range(2, 25, 2)))):
        assert [point.step for point in events(folder).Scalars(tag)] == steps


def test_figures_of_the_best_checkpoint_are_there_once_however_often_it_is_resumed(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    first = fashion_vgg("train", *tiny, "data.val_size=1000", root=tmp_path)
    assert first.returncode == 0, first.stderr
    [run] = tmp_path.glob("outputs/train/*/*")
    for epochs in (2, 3):
        again = fashion_vgg("train", f"resume={run}", f"trainer.max_epochs={epochs}", root=tmp_path)
        assert again.returncode == 0, again.stderr
        content = events(run)
        assert [point.step for point in content.Scalars("best/test/acc")] == [epochs]
        assert [point.step for point in content.Scalars("val/acc")] == list(range(1, epochs + 1))
