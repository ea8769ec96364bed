"""The wheel, installed apart from the checkout, works from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fashion_vgg.config.app import CONF

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "site")
    return folder / "site"


def test_the_configs_ship_inside_the_wheel(installed: Path) -> None:
    ours = {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    shipped = {str(path.relative_to(installed / "fashion_vgg/conf")) for path in installed.rglob("*.yaml")}
    assert shipped == ours


def test_the_command_runs_from_it(installed: Path, tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-P", "-m", "fashion_vgg", "train", "--cfg", "job", "experiment=speedrun"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "vgg" in done.stdout
    code = "import fashion_vgg.config.app; print(fashion_vgg.config.app.CONF)"
    done = subprocess.run([sys.executable, "-P", "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str(installed / "fashion_vgg" / "conf")
    entry = next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    assert "fashion-vgg = fashion_vgg.__main__:main" in entry


def test_a_second_start_installs_nothing_and_works_from_any_folder(tmp_path: Path) -> None:
    made_from = CHECKOUT / ".venv" / "made-from"
    if not made_from.exists():
        pytest.skip("this is not the environment that the scripts make")
    before = made_from.stat().st_mtime_ns
    script = [shutil.which("bash") or "bash", str(CHECKOUT / "scripts" / "train.sh"), "--help"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Train a VGG on Fashion-MNIST." in done.stdout
    assert done.stderr == ""
    assert made_from.stat().st_mtime_ns == before
