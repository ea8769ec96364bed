"""`fashion-vgg analyze` on a small trained network: files, values, and the page in a real browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import fashion_vgg as package
from fashion_vgg.analysis.evaluation import Evaluation
from fashion_vgg.commands import analyze
from fashion_vgg.data import fashion_mnist
from fashion_vgg.inference import predictor
from tests.conftest import Command
from tests.helpers import only, read_summary, trained
from tests.helpers.browser import open_page

pytestmark = pytest.mark.long

SECTIONS = [
    *("confusion", "classes", "calibration", "coverage", "mistakes"),
    *("label_errors", "filters", "feature_maps", "grad_cam"),
]


@pytest.fixture(scope="module")
def run(fashion_vgg: Command, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(fashion_vgg, tmp_path_factory, *tiny, "data.val_size=1000", "trainer.limit_val_batches=1.0")


@pytest.fixture(scope="module")
def analysis(fashion_vgg: Command, run: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("analysis")
    done = fashion_vgg("analyze", f"weights={run}", f"data.root={data_root}", root=root)
    assert (done.returncode, done.stderr) == (0, "")
    folder = only(root, "outputs/analyze/*/*")
    assert done.stdout.splitlines()[-1] == str(folder / "analysis.html")
    return folder


def test_it_writes_the_plots_the_values_and_the_page(analysis: Path) -> None:
    names = {f"{name}.png" for name in SECTIONS} | {"analysis.json", "analysis.html"}
    assert {path.name for path in analysis.iterdir()} == names
    for path in analysis.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_the_values_are_those_of_the_test(analysis: Path, run: Path, data_root: Path) -> None:
    values = json.loads((analysis / "analysis.json").read_text())
    assert values["accuracy"] == pytest.approx(read_summary(run)["best"]["test/acc"])
    assert values["weights"] == str(run / "best.ckpt")
    images, labels = fashion_mnist.load(data_root, "test")
    predictions = predictor.load(run).logits(images).argmax(dim=1)
    for label, row in enumerate(values["confusion"]):
        assert row == predictions[labels == label].bincount(minlength=10).tolist()
    first = values["most_confident_mistakes"][0]
    assert fashion_mnist.CLASS_NAMES[int(labels[first["index"]])] == first["label"] != first["predicted"]


@pytest.mark.thorough
def test_on_the_validation_split_it_repeats_the_recorded_accuracy(
    fashion_vgg: Command, run: Path, data_root: Path, tmp_path: Path
) -> None:
    done = fashion_vgg("analyze", f"weights={run}", "split=val", "image=999", f"data.root={data_root}", root=tmp_path)
    assert done.returncode == 0, done.stderr
    values = json.loads(only(tmp_path, "outputs/analyze/*/*/analysis.json").read_text())
    assert (values["images"], values["split"]) == (1000, "val")
    assert values["accuracy"] == pytest.approx(read_summary(run)["best"]["val/acc"])


def test_a_foreign_description_does_not_control_the_terminal() -> None:
    network = package.load("speedrun")
    network.card |= {"command": "\x1b[2J"}
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    evaluation = Evaluation(images, torch.tensor([0, 1]), network.logits(images), network.classes)
    facts = analyze.describe(OmegaConf.create({"split": "test"}), network, evaluation)
    assert facts["Training"].startswith("\\x1b[2J (commit ")


def test_the_page_shows_all_sections_and_loads_nothing(analysis: Path) -> None:
    with open_page(1100) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        messages: list[Any] = []
        page.on("console", lambda message: messages.append(message))
        page.goto(f"file://{analysis}/analysis.html")
        headings = [heading.inner_text() for heading in page.locator("h2").all()]
        assert headings[0] == "Confusion matrix"
        assert headings[-1] == "Grad-CAM"
        images = page.locator("img")
        assert images.count() == len(SECTIONS) == len(headings)
        for index in range(len(SECTIONS)):
            assert images.nth(index).evaluate("image => image.complete && image.naturalWidth > 0")
            assert images.nth(index).bounding_box()["width"] <= 960  # type: ignore[index]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.get_by_role("link", name="Calibration").click()
        assert page.url.endswith("#calibration")
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        assert messages == []


def test_mistakes_are_one_line(fashion_vgg: Command, run: Path, data_root: Path, tmp_path: Path) -> None:
    for words, message in (
        (["split=val", "weights=speedrun"], "split=val: the training held out no images (data.val_size=0)"),
        (["image=10000", "weights=speedrun"], "image=10000 does not fit: the set has 10,000 images, counted from 0."),
        (["split=train"], "split=train does not fit: use one of test, val."),
    ):
        done = fashion_vgg("analyze", *words, f"data.root={data_root}", root=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert message in done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("package", ["captum", "cleanlab"])
def test_without_an_extra_the_rest_is_analyzed(
    fashion_vgg: Command, data_root: Path, tmp_path: Path, package: str
) -> None:
    done = fashion_vgg("analyze", "weights=speedrun", f"data.root={data_root}", root=tmp_path, without=package)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{package}.* is not installed: pip install 'fashion-vgg\[analyze\]' adds .*\n", done.stderr)
    names = {path.stem for path in only(tmp_path, "outputs/analyze/*/*").glob("*.png")}
    assert names == set(SECTIONS) - ({"grad_cam"} if package == "captum" else {"label_errors"})


def test_a_network_of_other_classes_is_refused(
    fashion_vgg: Command, tiny: list[str], data_root: Path, tmp_path: Path
) -> None:
    words = [*tiny, "+model.num_classes=12", "trainer.max_epochs=1"]
    assert fashion_vgg("train", *words, root=tmp_path).returncode == 0
    done = fashion_vgg("analyze", f"data.root={data_root}", root=tmp_path)
    assert done.returncode == 2
    assert "the network has 12 classes, Fashion-MNIST has 10: analyze another one." in done.stderr
