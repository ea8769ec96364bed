"""Checkpoint files: whole or absent after a fault while they are written, and verified when they are read."""

import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_vgg import atomic
from fashion_vgg.checkpoints import checkpoint_io
from fashion_vgg.checkpoints.checkpoint_io import CheckedCheckpointIO
from fashion_vgg.errors import TrainingError, UserError
from tests.conftest import Survived
from tests.faults.conftest import MakeTraining, Training, in_the_long_set, times
from tests.helpers import assert_equal, assert_same
from tests.processes.command import Command


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


WRITER = """
import sys, torch
from fashion_vgg.checkpoints.checkpoint_io import CheckedCheckpointIO
torch.manual_seed(int(sys.argv[2]))
state = {str(i): torch.rand(int(sys.argv[3]) // 4 // 8) for i in range(8)}
for _ in range(100):
    CheckedCheckpointIO().save_checkpoint({"state_dict": state, "global_step": 1}, sys.argv[1])
"""


def test_a_kill_during_a_write_keeps_the_previous_file(
    fashion_vgg: Command, tmp_path: Path, moments: random.Random, survived: Survived
) -> None:
    number, size = times(3, 50), times(30_000_000, 300_000_000)
    path = tmp_path / "last.ckpt"
    unfinished = 0
    for attempt in range(number):
        writer = fashion_vgg.start(str(path), str(attempt), str(size), program=["-c", WRITER])
        writer.wait_until(lambda: path.exists() and any(tmp_path.glob(".*.part")))
        time.sleep(moments.uniform(0, size / 1e9))
        writer.kill()
        unfinished += bool(list(tmp_path.glob(".*.part")))
        assert [file for file in tmp_path.iterdir() if not file.name.endswith(".part")] == [path]
        assert len(checkpoint_io.load(path)["state_dict"]) == 8
        atomic.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
    assert unfinished >= number / 2
    survived(f"a checkpoint of {size // 1_000_000} MB is whole or absent after SIGKILL in its write", number, number)


def test_a_full_disk_keeps_the_previous_checkpoint(
    small: list[str], training: MakeTraining, tmpfs: Path, survived: Survived
) -> None:
    run = training(tmpfs / "run", [*small, "model.ratio=2"])  # 0.8 MB a checkpoint, four of which do not fit
    done = run.run()
    assert done.returncode == 2, done
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{run.folder}/")
    assert re.search(r"cannot be written: No space left on device \(\d\.\d MB are free\)\.", first)
    assert second.endswith(f"Resume with: fashion-vgg train 'resume={run.folder}'")
    assert not list(run.folder.glob(".*.part"))
    for checkpoint in run.folder.glob("*.ckpt"):
        checkpoint_io.load(checkpoint)
    for older in run.folder.glob("last-*.ckpt"):
        older.unlink()
    done = run.resume("checkpoint.keep=1", "checkpoint.every_minutes=60")
    assert done.returncode == 0, done.stderr
    survived("a full disk keeps the previous checkpoint, which is named and resumes", 1, 1)


@in_the_long_set
def test_a_full_disk_is_named_with_its_free_space(
    small: list[str], training: MakeTraining, tmp_path: Path, tmpfs: Path, survived: Survived
) -> None:
    """From the start, the run's folder, the log and the checkpoints; within a training, TensorBoard's curves."""
    short = [*small, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=2"]
    elsewhere = training(tmp_path / "elsewhere", short)
    curves = ["callbacks.histograms.every=1", "data.val_size=0", "trainer.max_epochs=100"]
    more = [*curves, f"checkpoint.folder={tmp_path}/checkpoints"]
    process = training(tmpfs / "curves", [*short, *more]).start()
    process.wait_until(lambda: "epoch " in process.stdout)
    fill(tmpfs, left=12_000)  # enough for metrics.csv
    within = process.result()
    fill(tmpfs)
    faults = {
        "curves/(events.out.tfevents|metrics.csv)": within,
        "full/.hydra/config.yaml": training(tmpfs / "full", short).run(),
        "checkpoints/last.ckpt": elsewhere.run(f"checkpoint.folder={tmpfs}/checkpoints"),
        "train.log": elsewhere.run(f"hydra.job_logging.handlers.file.filename={tmpfs}/train.log"),
    }
    for path, done in faults.items():
        assert done.returncode == 2, done
        full = r"cannot be written: No space left on device \(0\.\d MB are free\)\. Use another folder or disk\."
        assert re.fullmatch(rf"{tmpfs}/{path}\S* {full}\n(The last checkpoint is .*\n)?", done.stderr), done
    survived("a full disk is named with its free space", len(faults), len(faults))


def fill(folder: Path, left: int = 0) -> None:
    """Fill the disk of a folder but for some bytes."""
    free = shutil.disk_usage(folder).free
    (folder / f"filled{free}").write_bytes(bytes(max(0, free - left)))


def test_a_read_only_folder_is_named_at_once(
    small: list[str], training: MakeTraining, tmp_path: Path, tmpfs: Path, survived: Survived
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    run = training(tmp_path / "run", [*small, "trainer.max_epochs=1000"])
    done = run.run(f"checkpoint.folder={tmpfs}/checkpoints")
    assert done.returncode == 2
    assert "Read-only file system" in done.stderr
    assert str(tmpfs) in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    survived("a read-only folder is named before an epoch ends", 1, 1)


def is_wrong(path: Path, expected: dict[str, Any]) -> bool:
    """Whether a file loads with another content, or is refused without being named."""
    try:
        content = checkpoint_io.load(path)
    except UserError as error:
        return str(path) not in str(error)
    try:
        assert_same(expected, content, "")
    except AssertionError:
        return True
    return False


def test_altered_and_truncated_files_are_refused(
    undisturbed: Training, tmp_path: Path, moments: random.Random, survived: Survived
) -> None:
    path = tmp_path / "last.ckpt"
    good = (undisturbed.folder / "last.ckpt").read_bytes()
    path.write_bytes(good)
    expected = checkpoint_io.load(path)
    flips, cuts, wholes = times(200, 2000), times(50, 500), times(10, 100)
    wrong = 0
    for _ in range(flips):
        altered = bytearray(good)
        bit = moments.randrange(8 * len(good))
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        wrong += is_wrong(path, expected)
    for _ in range(cuts):
        path.write_bytes(good[: moments.randrange(len(good))])
        with pytest.raises(UserError, match="truncated or altered"):
            checkpoint_io.load(path)
    for seed in range(wholes):
        state = {"weight": torch.rand(seed + 1, generator=torch.Generator().manual_seed(seed))}
        CheckedCheckpointIO().save_checkpoint({"state_dict": state, "global_step": 1}, path)
        assert torch.equal(checkpoint_io.load(path)["state_dict"]["weight"], state["weight"])
    survived("a checkpoint with a flipped bit loads unchanged or not at all", flips, flips - wrong)
    survived("a truncated checkpoint is refused", cuts, cuts)
    survived("an intact checkpoint loads", wholes, wholes)


@in_the_long_set
def test_the_newest_intact_checkpoint_is_resumed(
    undisturbed: Training, small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    run = training(tmp_path / "run", small)
    run.run_until((run.folder / "last-2.ckpt").exists, signal.SIGTERM)  # not while it renames them
    for name in ("last.ckpt", "last-1.ckpt"):
        content = (run.folder / name).read_bytes()
        (run.folder / name).unlink()  # it may be a hard link to another
        (run.folder / name).write_bytes(content[: len(content) // 2])
    done = run.resume()
    assert done.returncode == 0, done.stderr
    for name in ("last.ckpt", "last-1.ckpt"):
        assert f"{run.folder}/{name} is truncated or altered: it was not loaded." in done.stdout
    assert f"Resuming from {run.folder}/last-2.ckpt" in done.stdout
    assert_equal(undisturbed.folder, run.folder)
    survived("with the newest two checkpoints altered, the third is resumed", 1, 1)


def test_without_an_intact_checkpoint_the_damaged_one_is_named(
    undisturbed: Training, training: MakeTraining, tmp_path: Path
) -> None:
    run = training(shutil.copytree(undisturbed.folder, tmp_path / "run"), [])
    (run.folder / "last.ckpt").write_bytes(b"PK")
    done = run.resume()
    assert done.returncode == 2
    assert f"{run.folder}/last.ckpt is truncated or altered" in done.stderr


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    CheckedCheckpointIO().save_checkpoint({"state_dict": {"weight": torch.ones(2)}, "global_step": 1}, path)
    before = path.read_bytes()
    for value in (float("nan"), float("inf")):
        state = {"weight": torch.tensor([1.0, value])}
        with pytest.raises(TrainingError, match=r"weight is not finite after step 7; .*last.ckpt is unchanged"):
            CheckedCheckpointIO().save_checkpoint({"state_dict": state, "global_step": 7}, path)
    assert path.read_bytes() == before
