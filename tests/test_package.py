"""`fashion-vgg` as a user starts it: from the wheel, the console script, scripts/train.sh, in a new interpreter."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import fashion_vgg
from fashion_vgg.config.app import CONF
from fashion_vgg.data import FashionMNISTDataModule
from fashion_vgg.inference.predictor import load
from fashion_vgg.models import VGG
from fashion_vgg.training import ImageClassifier
from tests.helpers import weights
from tests.processes.command import Command

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_contains_the_configs(installed: Path) -> None:
    ours = {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    shipped = {str(path.relative_to(installed / "fashion_vgg/conf")) for path in installed.rglob("*.yaml")}
    assert shipped == ours


def test_the_wheel_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import fashion_vgg.config.app as app; print(app.CONF)"
    train = ["-m", "fashion_vgg", "train", "--cfg", "job", "experiment=speedrun"]
    for argv, expected in ((train, "vgg"), (["-c", code], str(installed / "fashion_vgg" / "conf"))):
        env = os.environ | {"PYTHONPATH": str(installed)}
        done = subprocess.run([sys.executable, "-P", *argv], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_the_package_exports_its_classes() -> None:
    exported = {name: getattr(fashion_vgg, name) for name in fashion_vgg.__all__}
    classes = {"VGG": VGG, "FashionMNISTDataModule": FashionMNISTDataModule, "ImageClassifier": ImageClassifier}
    assert exported == classes | {"load": load}
    with pytest.raises(AttributeError, match="'fashion_vgg' has no attribute 'VGG11'"):
        fashion_vgg.VGG11  # noqa: B018


def test_the_package_lists_its_names_without_torch() -> None:
    code = "import sys, fashion_vgg; print(*dir(fashion_vgg), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *names, torch_imported = done.stdout.split()
    assert {"VGG", "FashionMNISTDataModule", "ImageClassifier", "load"} <= set(names)
    assert torch_imported == "False"


def test_the_console_script_runs(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("fashion-vgg")
    if not script.exists():
        pytest.skip("fashion-vgg is not installed in this environment")
    for word, status, output in (("--help", 0, "Train a VGG on Fashion-MNIST."), ("batch_size=0", 2, "")):
        env = os.environ | {"FASHION_VGG_ROOT": str(tmp_path)}
        done = subprocess.run([script, "train", word], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert output in done.stdout
        assert done.stderr == ("" if status == 0 else "batch_size=0 does not fit: use an integer of at least 1.\n")


@pytest.mark.long
def test_train_sh_starts_in_any_folder_and_does_not_install_again(tmp_path: Path) -> None:
    made_from = CHECKOUT / ".venv" / "made-from"
    if not made_from.exists():
        pytest.skip("scripts/environment.sh did not create this environment")
    before = made_from.stat().st_mtime_ns
    script = [shutil.which("bash") or "bash", str(CHECKOUT / "scripts" / "train.sh"), "--help"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Train a VGG on Fashion-MNIST." in done.stdout
    assert made_from.stat().st_mtime_ns == before


@pytest.mark.long
@pytest.mark.parametrize(
    "line",
    [
        *("trian", "train optimizer.lrr=1"),
        *(pytest.param(line, marks=pytest.mark.thorough) for line in ("--help", "fetch data.root={data_root}")),
    ],
)
def test_a_forked_command_equals_one_in_a_new_interpreter(fashion_vgg: Command, data_root: Path, line: str) -> None:
    forked, new = (fashion_vgg(*line.format(data_root=data_root).split(), fork=fork) for fork in (True, False))
    assert (forked.returncode, forked.stdout, forked.stderr) == (new.returncode, new.stdout, new.stderr)


@pytest.mark.thorough
def test_a_forked_training_equals_one_in_a_new_interpreter(
    fashion_vgg: Command, tiny_with_plots: list[str], tmp_path: Path
) -> None:
    """The other tests start trainings by fork: output, log, files and weights are those of a user's training."""
    outputs, logs, runs = [], [], []
    for fork in (True, False):
        run = tmp_path / str(fork)
        done = fashion_vgg("train", *tiny_with_plots, "data.val_size=1000", f"hydra.run.dir={run}", fork=fork)
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append(without_times(done.stdout, run))
        logs.append(without_times((run / "train.log").read_text(), run))
        runs.append(run)
    assert outputs[0] == outputs[1]
    assert logs[0] == logs[1] != ""
    ours, theirs = ({path.name.partition(".tfevents")[0] for path in run.iterdir()} for run in runs)
    assert ours == theirs
    assert all(torch.equal(*pair) for pair in zip(*(weights(run).values() for run in runs), strict=True))


def without_times(text: str, run: Path) -> str:
    """Without what differs from run to run: the folder, dates, and images per second."""
    text = text.replace(str(run), "RUN")
    return re.sub(r"\[\d{4}-\S+ \S+\]|\S+ (images/s|examples/sec)", "", text)
