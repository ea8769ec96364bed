"""Checkpoint files: whole or absent whatever happens while they are written, and not trusted when they are read."""

import random
import re
import shutil
import signal
import subprocess
import sys
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
from tests.faults.conftest import Training, times
from tests.helpers import assert_equal, assert_same


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


WRITER = """
import sys, torch
from fashion_vgg.checkpoints.checkpoint_io import CheckedCheckpointIO
torch.manual_seed(int(sys.argv[2]))
state = {str(i): torch.rand(int(sys.argv[3]) // 4 // 8) for i in range(8)}
print("ready", flush=True)
for _ in range(100):
    CheckedCheckpointIO().save_checkpoint({"state_dict": state, "global_step": 1}, sys.argv[1])
"""


def test_a_kill_during_a_write_leaves_the_file_that_was_there(
    tmp_path: Path, moments: random.Random, survived: Survived
) -> None:
    number, size = times(3, 50), times(30_000_000, 300_000_000)
    path = tmp_path / "last.ckpt"
    in_the_middle = 0
    for attempt in range(number):
        command = [sys.executable, "-c", WRITER, str(path), str(attempt), str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            while attempt and not list(tmp_path.glob(".*.part")):
                time.sleep(0.001)
            time.sleep(moments.uniform(0, size / 1e9) if attempt else 3)
            writer.send_signal(signal.SIGKILL)
        in_the_middle += bool(list(tmp_path.glob(".*.part")))
        assert [file for file in tmp_path.iterdir() if not file.name.endswith(".part")] == [path]
        assert len(checkpoint_io.load(path)["state_dict"]) == 8
        atomic.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
    assert in_the_middle >= number / 2
    survived(f"checkpoints of {size // 1_000_000} MB whole or absent after SIGKILL in their write", number, number)


def test_a_full_disk_leaves_the_file_that_was_there_and_is_named(
    small: list[str], tmp_path: Path, tmpfs: Path, survived: Survived
) -> None:
    run = tmpfs / "run"
    training = Training(run, [*small, "model.ratio=2"])  # 0.8 MB a checkpoint, four of which do not fit
    done = training.run(*training.first())
    assert done.returncode == 2, done
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{run}/")
    assert re.search(r"cannot be written: No space left on device \(\d\.\d MB are free\)\.", first)
    assert second.endswith(f"Go on with: fashion-vgg train 'resume={run}'")
    assert not list(run.glob(".*.part"))
    for checkpoint in run.glob("*.ckpt"):
        checkpoint_io.load(checkpoint)
    for older in run.glob("last-*.ckpt"):
        older.unlink()
    done = Training(run, []).run(f"resume={run}", "checkpoint.keep=1", "checkpoint.every_minutes=60")
    assert done.returncode == 0, done.stderr
    survived("a full disk: the checkpoint before stays, is named, and is gone on with", 1, 1)


def test_a_folder_that_cannot_be_written_is_named_in_seconds(
    small: list[str], tmp_path: Path, tmpfs: Path, survived: Survived
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    start = time.monotonic()
    done = Training(tmp_path / "run", small).run(f"checkpoint.folder={tmpfs}/checkpoints")
    assert done.returncode == 2
    assert "Read-only file system" in done.stderr
    assert str(tmpfs) in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert time.monotonic() - start < 60
    survived("a read-only folder is named", 1, 1)


@pytest.fixture(scope="module")
def good(undisturbed: Training) -> bytes:
    return (undisturbed.folder / "last.ckpt").read_bytes()


def loads_wrongly(path: Path, expected: dict[str, Any]) -> bool:
    """Whether a file is taken for good and has not the content it should."""
    try:
        content = checkpoint_io.load(path)
    except UserError as error:
        return str(path) not in str(error)
    try:
        assert_same(expected, content, "")
    except AssertionError:
        return True
    return False


def test_no_flipped_bit_and_no_cut_is_taken_for_good(
    good: bytes, tmp_path: Path, moments: random.Random, survived: Survived
) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(good)
    expected = checkpoint_io.load(path)
    flips, cuts, wholes = times(200, 2000), times(50, 500), times(10, 100)
    wrong = 0
    for _ in range(flips):
        altered = bytearray(good)
        bit = moments.randrange(8 * len(good))
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        wrong += loads_wrongly(path, expected)
    for _ in range(cuts):
        path.write_bytes(good[: moments.randrange(len(good))])
        with pytest.raises(UserError, match="cut or altered"):
            checkpoint_io.load(path)
    for seed in range(wholes):
        state = {"weight": torch.rand(seed + 1, generator=torch.Generator().manual_seed(seed))}
        CheckedCheckpointIO().save_checkpoint({"state_dict": state, "global_step": 1}, path)
        assert torch.equal(checkpoint_io.load(path)["state_dict"]["weight"], state["weight"])
    survived("flipped bits of a checkpoint: none loads with another content", flips, flips - wrong)
    survived("cut checkpoints refused", cuts, cuts)
    survived("good checkpoints load", wholes, wholes)


def test_with_the_newest_two_altered_the_third_is_gone_on_with(
    undisturbed: Training, small: list[str], tmp_path: Path, survived: Survived
) -> None:
    training = Training(tmp_path / "run", small)
    training.run_until(lambda: (training.folder / "last-2.ckpt").exists(), signal.SIGKILL, *training.first())
    for name in ("last.ckpt", "last-1.ckpt"):
        content = (training.folder / name).read_bytes()
        (training.folder / name).unlink()  # it may be a second name of the same file
        (training.folder / name).write_bytes(content[: len(content) // 2])
    done = Training(training.folder, []).run(f"resume={training.folder}")
    assert done.returncode == 0, done.stderr
    for name in ("last.ckpt", "last-1.ckpt"):
        assert f"{training.folder}/{name} is cut or altered: it was not loaded." in done.stdout
    assert f"Goes on from {training.folder}/last-2.ckpt" in done.stdout
    assert_equal(undisturbed.folder, training.folder)
    survived("the newest two checkpoints altered: the third is gone on with", 1, 1)


def test_when_none_is_whole_it_says_so(undisturbed: Training, tmp_path: Path) -> None:
    run = shutil.copytree(undisturbed.folder, tmp_path / "run")
    (run / "last.ckpt").write_bytes(b"PK")
    done = Training(run, []).run(f"resume={run}")
    assert done.returncode == 2
    assert f"{run}/last.ckpt is cut or altered" in done.stderr


def test_nothing_that_is_not_finite_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    CheckedCheckpointIO().save_checkpoint({"state_dict": {"weight": torch.ones(2)}, "global_step": 1}, path)
    before = path.read_bytes()
    for value in (float("nan"), float("inf")):
        with pytest.raises(TrainingError, match=r"weight is not finite after step 7; .*last.ckpt is of before"):
            CheckedCheckpointIO().save_checkpoint(
                {"state_dict": {"weight": torch.tensor([1.0, value])}, "global_step": 7}, path
            )
    assert path.read_bytes() == before
