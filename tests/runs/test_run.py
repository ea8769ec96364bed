"""`fashion-vgg runs`, mostly through the real command line."""

import csv
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.commands.runs import select_runs
from fashion_vgg.runs import summary
from fashion_vgg.runs.comparison import compare
from tests.conftest import Command
from tests.helpers import finish, leave

TRAIN = Path("outputs", "train")


def test_the_best_epoch_is_that_of_the_checkpoint() -> None:
    rows = [{"epoch": epoch, "val/acc": accuracy} for epoch, accuracy in ((1, 0.6), (2, 0.7), (3, 0.5))]
    cpu = torch.device("cpu")
    for test in ({}, {"test/acc": 0.6}):  # without one: trainer.limit_test_batches=0
        assert summary.summarize(rows, test, 1.0, cpu, 1, [], best_epoch=2)["best"] == rows[1] | test
    assert summary.summarize(rows, {"test/acc": 0.6}, 1.0, cpu, 1, [], best_epoch=3)["best"]["val/acc"] == 0.5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three runs on three days: a finished one, a diverged one of a sweep, an interrupted one."""
    finish(tmp_path / TRAIN / "2026-01-01" / "10-30-00-aaaaaaaa", ["model=vgg11", "optimizer.lr=0.1"], 0.91, 125)
    diverged = tmp_path / "outputs" / "sweeps" / "2026-01-03" / "09-00-00-bbbbbbbb" / "optimizer.lr=9"
    run_folder.write_outcome(leave(diverged, ["model=vgg11", "optimizer.lr=9"]), "diverged", "The loss is nan.")
    row = {"epoch": 1, "train/loss": 0.5, "val/acc": 0.75}
    leave(tmp_path / TRAIN / "2026-01-02" / "11-00-00-cccccccc", ["model=vgg11", "data.val_size=5000"], [row])
    return tmp_path


def test_runs_are_listed_newest_first(fashion_vgg: Command, root: Path) -> None:
    done = fashion_vgg("runs", root=root)
    assert (done.returncode, done.stderr) == (0, "")
    first, blank, header, *rows = done.stdout.splitlines()
    assert (first, blank) == ("Common settings: model=vgg11", "")
    assert header.split() == ["when", "status", "accuracy", "epochs", "time", "overrides", "folder"]
    diverged, interrupted, finished = (row.split() for row in rows)
    assert diverged[:5] == ["2026-01-03", "09:00", "diverged", "0", "lr=9"]
    assert diverged[5:] == ["outputs/sweeps/2026-01-03/09-00-00-bbbbbbbb/optimizer.lr=9"]
    assert interrupted[:7] == ["2026-01-02", "11:00", "unfinished", "0.7500", "val", "1", "val_size=5000"]
    assert interrupted[7:] == ["outputs/train/2026-01-02/11-00-00-cccccccc"]
    assert " ".join(finished[:10]) == "2026-01-01 10:30 finished 0.9100 test 2 2 min 05 s"
    assert finished[10:] == ["lr=0.1", "outputs/train/2026-01-01/10-30-00-aaaaaaaa"]


def test_runs_are_selected_by_text_and_status(root: Path) -> None:
    def names(*texts: str, status: str | None = None) -> list[str]:
        return [run.folder.name[:9] for run in select_runs(root, texts, status)]

    assert names("optimizer.lr") == ["optimizer", "10-30-00-"]
    assert names("optimizer.lr", "sweeps") == ["optimizer"]
    assert names("2026-01-02") == names(status="unfinished") == ["11-00-00-"]
    assert names("vgg11", status="finished") == ["10-30-00-"]


def test_runs_are_selected_by_a_whole_override(tmp_path: Path) -> None:
    for name, word in (("one", "seed=1"), ("ten", "seed=10"), ("split", "data.split_seed=1"), ("more", "+my.seed=2")):
        finish(tmp_path / name, [word], 0.9)
    for text, name in (("seed=1", "one"), ("split_seed=1", "split"), ("my.seed=2", "more"), ("seed=2", "more")):
        assert [run.folder.name for run in select_runs(tmp_path, [text])] == [name]


def test_a_locked_run_is_running(root: Path) -> None:
    [folder] = [run.folder for run in select_runs(root, status="unfinished")]
    with run_folder.lock(folder):
        assert [run.folder for run in select_runs(root, status="running")] == [folder]


def test_a_finished_run_has_no_error(root: Path) -> None:
    """A failed job that was resumed on its own, without its sweep, may have left its outcome."""
    [run] = select_runs(root, status="finished")
    run_folder.write_outcome(run.folder, "failed", "The disk is full.")
    [run] = select_runs(root, status="finished")
    assert run.outcome == {}
    [row] = csv.DictReader(compare(run.folder).to_csv().splitlines())
    assert (row["status"], row["error"]) == ("finished", "")


def test_a_folder_without_its_overrides_is_no_run_without_overrides(root: Path) -> None:
    [run] = select_runs(root, status="finished")
    shutil.rmtree(run.folder / ".hydra")  # as `cp run/* copy` does
    assert run.folder not in [run.folder for run in select_runs(root)]


def test_the_config_of_wandb_is_no_run(root: Path) -> None:
    before = [run.folder for run in select_runs(root)]
    files = before[0] / "wandb" / "run-1" / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text("wandb_version: 1")
    assert [run.folder for run in select_runs(root)] == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["vgg19"], "outputs: none of the 3 runs matches."),
        (["--status", "pruned"], "outputs: none of the 3 runs matches."),
        (["--root", "nowhere"], "nowhere: no such folder. Name one with --root."),
        (["--root", "empty"], "empty: contains no run."),
    ],
)
def test_without_matching_runs_the_command_prints_one_line(
    fashion_vgg: Command, root: Path, args: list[str], message: str
) -> None:
    (root / "empty").mkdir()
    done = fashion_vgg("runs", *args, root=root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{message}\n")
    assert len(done.stderr.splitlines()) == 1


def run_in_shell(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"FASHION_VGG_ROOT": str(root)}
    return subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)


def test_two_hundred_runs_take_less_than_two_seconds(tmp_path: Path) -> None:
    for index in range(200):
        folder = tmp_path / TRAIN / "2026-01-01" / f"10-{index // 60:02}-{index % 60:02}-{index:08}"
        finish(folder, [f"seed={index}", "model=vgg11", "optimizer.lr=0.1"], 0.9)
    # A new interpreter, to include the imports; its CPU time, because other processes may be running.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_in_shell(tmp_path, f"{sys.executable} -m fashion_vgg runs")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert len(done.stdout.splitlines()) == 203


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    # More than the 64 KiB that a pipe holds, so that the command writes after `head` has left.
    for index in range(200):
        finish(tmp_path / TRAIN / "2026-01-01" / f"10-00-00-{index:08}", [f"seed={index}", "note=" + "x" * 900], 0.9)
    done = run_in_shell(tmp_path, f"set -o pipefail; {sys.executable} -m fashion_vgg runs | head -1")
    assert (done.returncode, done.stderr) == (0, "")
