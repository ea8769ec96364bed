"""Trainings on a disk with a quota, and on a file system without hard links and locks."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import Command, Survived
from tests.faults.conftest import MakeTraining, Training, in_the_long_set
from tests.helpers import assert_equal

PLAIN = Path(__file__).with_name("plain_file_system.py")


def run(*line: str) -> None:
    """Run a command that makes or mounts a file system; skip the test if that is not possible here."""
    try:
        subprocess.run(line, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"{line[0]} is not possible: {error}")


@pytest.fixture
def with_quota(tmp_path: Path) -> Iterator[Path]:
    """A folder with a quota of 3 MB on a larger disk: a subvolume of btrfs."""
    image, mounted = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    mounted.mkdir()
    run("mkfs.btrfs", "--quiet", str(image))
    run("mount", "-o", "loop", str(image), str(mounted))
    try:
        run("btrfs", "quota", "enable", str(mounted))
        run("btrfs", "subvolume", "create", str(mounted / "mine"))
        run("btrfs", "qgroup", "limit", "3M", str(mounted / "mine"))
        yield mounted / "mine"
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system without hard links, locks and synced folders."""
    if find_spec("mfusepy") is None:
        pytest.skip("needs mfusepy")
    stored, mounted = tmp_path / "stored", tmp_path / "plain"
    stored.mkdir()
    mounted.mkdir()
    server = subprocess.Popen([sys.executable, str(PLAIN), str(stored), str(mounted)])
    while server.poll() is None and not mounted.is_mount():
        time.sleep(0.05)
    if server.poll() is not None:
        pytest.skip("FUSE is not possible")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)
    server.wait(30)


@in_the_long_set
def test_a_quota_keeps_the_previous_checkpoint(
    small: list[str], training: MakeTraining, with_quota: Path, survived: Survived
) -> None:
    trained = training(with_quota / "run", [*small, "model.ratio=2"])  # 0.8 MB a checkpoint, four of which do not fit
    done = trained.run()
    assert done.returncode == 2, done
    first, second = done.stderr.splitlines()
    assert first.endswith("cannot be written: Disk quota exceeded. Use another folder or disk.")
    assert first.startswith(f"{trained.folder}/")
    assert second.endswith(f"Resume with: fashion-vgg train resume={trained.folder}")
    assert not list(trained.folder.glob(".*.part"))
    for older in trained.folder.glob("last-*.ckpt"):
        older.unlink()
    subprocess.run(["sync", "-f", str(with_quota)], check=True)
    done = trained.resume("checkpoint.keep=1", "checkpoint.every_minutes=60")
    assert done.returncode == 0, done.stderr
    survived("a disk quota keeps the previous checkpoint, which is named and resumes", 1, 1)


@in_the_long_set
def test_a_file_system_without_links_and_locks(
    undisturbed: Training,
    small: list[str],
    training: MakeTraining,
    fashion_vgg: Command,
    plain: Path,
    survived: Survived,
) -> None:
    trained = training(plain / "run", small)
    killed = trained.run_until((trained.folder / "last-2.ckpt").exists, signal.SIGKILL)
    assert killed.stdout.count(f"{trained.folder} cannot be locked (No locks available)") == 1
    assert "unfinished" in fashion_vgg("runs", "--root", str(plain)).stdout
    done = trained.resume()
    assert done.returncode == 0, done.stderr
    assert_equal(undisturbed.folder, trained.folder)
    assert "finished" in fashion_vgg("runs", "--root", str(plain)).stdout
    sweep = fashion_vgg("train", "-m", *small, "trainer.max_epochs=1", "seed=1,2", root=plain)
    assert sweep.returncode == 0, sweep.stderr
    survived("exact resume after SIGKILL on a file system without hard links and locks", 1, 1)
