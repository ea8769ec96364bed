"""`fashion-vgg train` on real images: what it prints, and the folder that it leaves."""

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from fashion_vgg.data import FashionMNISTDataModule
from fashion_vgg.reference import d2l
from fashion_vgg.training.tensorboard import tag
from tests.conftest import Command
from tests.helpers import accuracy_by_hand, each_reseeded, only, path_with_srun, read_summary, weights

METRICS = {"train/loss", "train/acc", "test/loss", "test/acc", "lr", "images_per_sec"}


@pytest.fixture(scope="module")
def run(fashion_vgg: Command, tiny_with_plots: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small training by the book's protocol, without a validation split."""
    root = tmp_path_factory.mktemp("run")
    done = fashion_vgg("train", *tiny_with_plots, "trainer.limit_val_batches=1.0", root=root)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (root / "stdout").write_text(done.stdout)
    return only(root, "outputs/train/*/*")


class TestRun:
    def test_it_prints_a_line_per_epoch_and_the_books_lines_last(self, run: Path) -> None:
        lines = (run.parents[3] / "stdout").read_text().splitlines()
        assert lines[0] == f"Results go to {run}"
        assert [line[:10] for line in lines[1:3]] == ["epoch  1/2", "epoch  2/2"]
        assert re.fullmatch(r"loss \d\.\d{3}, train acc 0\.\d{3}, test acc 0\.\d{3}", lines[3])
        assert re.fullmatch(r"\d+\.\d examples/sec on cpu", lines[4])
        assert len(lines) == 5
        log = (run / "train.log").read_text()
        assert all(line in log for line in lines)

    def test_its_folder_is_complete(self, run: Path) -> None:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", run.parent.name)
        assert re.fullmatch(r"model=vgg5_light,image_size=28,trainer=cpu,ratio=4,\d\d-\d\d-\d\d-[0-9a-f]{6}", run.name)
        files = {path.name for path in run.iterdir()}
        events = {name for name in files if name.startswith("events.out.tfevents.")}
        assert len(events) == 1
        written = {"config.yaml", "metrics.csv", "result.png", "result.svg", "last.ckpt", "summary.json", "train.log"}
        written |= {"confusion.png", "mistakes.png"}
        assert files == written | events | {".hydra", ".lock", "hparams.yaml"}
        assert (run / "result.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (run / "result.svg").read_text()

    def test_the_summary_has_everything_to_repeat_it(self, run: Path, tiny_with_plots: list[str]) -> None:
        summary = read_summary(run)
        assert summary["overrides"] == [*tiny_with_plots, "trainer.limit_val_batches=1.0"]
        assert summary["epochs"] == 2
        assert summary["final"]["epoch"] == 2
        assert summary["best"]["test/acc"] >= summary["final"]["test/acc"]
        assert set(summary["final"]) == METRICS | {"epoch"}
        assert summary["versions"]["torch"] == torch.__version__.partition("+")[0]
        assert summary["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
        assert summary["device"] == "cpu"
        assert summary["wall_seconds"] > 0
        seconds = 2 * 8 * 128 / summary["images_per_sec"]
        assert seconds < summary["wall_seconds"]
        checkout = Path(__file__).parents[2]  # without a commit if it is an archive
        git = subprocess.run(["git", f"--git-dir={checkout}/.git", "rev-parse", "HEAD"], capture_output=True, text=True)
        assert (summary["git_commit"] or "").removesuffix("-dirty") == git.stdout.strip()

    def test_the_metrics_have_a_row_per_epoch_and_agree_with_the_summary(self, run: Path) -> None:
        header, *rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
        assert header == ["epoch", "train/loss", "train/acc", "test/loss", "test/acc", "images_per_sec", "lr"]
        final = read_summary(run)["final"]
        assert [float(value) for value in rows[-1]] == [final[name] for name in header]
        assert [row[0] for row in rows] == ["1", "2"]

    def test_tensorboard_has_every_metric_by_epoch_and_the_plots(self, run: Path) -> None:
        events = EventAccumulator(str(run)).Reload()
        tags: Any = events.Tags()
        assert set(tags["scalars"]) == {tag(name) for name in METRICS}
        final = read_summary(run)["final"]
        for name in METRICS:
            scalars: Any = events.Scalars(tag(name))
            assert [scalar.step for scalar in scalars] == [1, 2]
            assert scalars[-1].value == pytest.approx(final[name])
        assert tags["images"] == ["plots/result", "plots/confusion", "plots/mistakes"]

    def test_the_stored_config_is_resolved(self, run: Path, data_root: Path) -> None:
        text = (run / "config.yaml").read_text()
        assert "${" not in text
        config: Any = OmegaConf.create(text)
        assert config["data"]["root"] == str(data_root)
        assert config["trainer"]["max_epochs"] == 2

    def test_the_checkpoint_is_of_the_last_step_and_has_the_final_metrics(self, run: Path) -> None:
        checkpoint = torch.load(run / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 2 * 8
        [history] = [state for name, state in checkpoint["callbacks"].items() if "History" in name]
        assert history["rows"][-1] == read_summary(run)["final"]
        assert read_summary(run)["final"]["test/acc"] == pytest.approx(accuracy_by_hand(run, "last.ckpt"), abs=1e-7)

    def test_its_own_config_repeats_it_bit_for_bit(self, run: Path, fashion_vgg: Command, tmp_path: Path) -> None:
        again = tmp_path / "again"
        done = fashion_vgg(
            "train", "-cp", str(run / ".hydra"), "-cn", "config", f"hydra.run.dir={again}", root=tmp_path
        )
        assert done.returncode == 0, done.stderr
        for (name, value), other in zip(weights(run).items(), weights(again).values(), strict=True):
            assert torch.equal(value, other), name


class TestGroups:
    @pytest.mark.thorough
    def test_optimizers_and_schedulers_are_swept(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        grid = ["optimizer=sgd,adamw", "scheduler=cosine,none"]
        done = fashion_vgg("train", "-m", *tiny, "trainer.max_epochs=3", *grid, root=tmp_path)
        assert done.returncode == 0, done.stderr
        rates = {}
        for summary in tmp_path.glob("outputs/sweeps/*/*/*/summary.json"):
            config: Any = OmegaConf.load(summary.parent / "config.yaml")
            schedule = "cosine" if config.scheduler else "none"
            rows = [line.split(",") for line in (summary.parent / "metrics.csv").read_text().splitlines()]
            rates[config.optimizer["_target_"], schedule] = [float(row[rows[0].index("lr")]) for row in rows[1:]]
        assert rates == {
            ("torch.optim.SGD", "none"): pytest.approx([0.05, 0.05, 0.05]),
            ("torch.optim.AdamW", "none"): pytest.approx([0.001, 0.001, 0.001]),
            # (1 + cos(pi * epochs / 3)) / 2
            ("torch.optim.SGD", "cosine"): pytest.approx([0.05, 0.05 * 0.75, 0.05 * 0.25]),
            ("torch.optim.AdamW", "cosine"): pytest.approx([0.001, 0.00075, 0.00025]),
        }

    def test_early_stopping_says_why(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        never = ["callbacks.early_stopping.min_delta=100", "callbacks.early_stopping.patience=1"]
        split = ["callbacks=early_stopping", "data.val_size=600", "trainer.max_epochs=5"]
        done = fashion_vgg("train", *tiny, *split, *never, root=tmp_path)
        assert done.returncode == 0, done.stderr
        reason = "Monitored metric val/loss did not improve in the last 1 records. Best score: "
        assert f"Stopped after epoch 2: {reason}" in done.stdout
        summary = read_summary(only(tmp_path, "outputs/train/*/*"))
        assert summary["epochs"] == 2
        assert summary["stopped_early"].startswith(reason)

    def test_a_time_limit_says_so(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        done = fashion_vgg("train", *tiny, "trainer.max_epochs=1000", "trainer.max_time={seconds: 1}", root=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.search(r"Stopped after epoch \d+: trainer.max_time is over\.", done.stdout)
        run = only(tmp_path, "outputs/train/*/*")
        before = (run / "metrics.csv").read_text()
        again = fashion_vgg("train", f"resume={run}", root=tmp_path)
        assert (again.returncode, again.stderr) == (0, "")
        assert (run / "metrics.csv").read_text() == before

    @pytest.mark.thorough
    def test_ten_images_are_learned_by_heart(self, fashion_vgg: Command, data_root: Path, tmp_path: Path) -> None:
        words = ["model.ratio=4", "image_size=32", "debug=overfit", "optimizer=adam", f"data.root={data_root}"]
        done = fashion_vgg("train", *words, root=tmp_path)
        assert done.returncode == 0, done.stderr
        final = read_summary(only(tmp_path, "outputs/train/*/*"))["final"]
        assert final["train/acc"] == 1
        assert final["train/loss"] < 0.02

    def test_debugging_takes_a_word(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        for debug, steps in (("fdr", 1), ("profiler", 8)):
            done = fashion_vgg("train", *tiny, "trainer.max_epochs=1", f"debug={debug}", root=tmp_path / debug)
            assert done.returncode == 0, done.stderr
            run = only(tmp_path / debug, "outputs/train/*/*")
            assert torch.load(run / "last.ckpt", weights_only=True)["global_step"] == steps
        assert re.search(r"run_training_batch +\| +[\d.e-]+ +\| 8 ", re.sub(r"\s+", " ", done.stdout))


AVERAGED = "+callbacks.average={_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.9}"


@pytest.mark.long
@pytest.mark.parametrize("more", [[], [AVERAGED]])
def test_a_validation_split_selects_the_checkpoint_that_is_tested_at_the_end(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path, more: list[str]
) -> None:
    done = fashion_vgg("train", *tiny, "data.val_size=600", "trainer.max_epochs=3", *more, root=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only(tmp_path, "outputs/train/*/*")
    header, *rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    assert not [name for name in header if name.startswith("test/")]
    scores = [float(row[header.index("val/acc")]) for row in rows]
    best = torch.load(run / "best.ckpt", weights_only=True)
    assert best["epoch"] == scores.index(max(scores))
    summary = read_summary(run)
    assert summary["final"]["epoch"] == 3
    assert "test/acc" not in summary["final"]
    assert summary["best"]["epoch"] == best["epoch"] + 1
    assert summary["best"]["val/acc"] == max(scores)
    assert summary["best"]["test/acc"] == pytest.approx(accuracy_by_hand(run, "best.ckpt"), abs=1e-7)
    shown = [f"{summary['best'][name]:.3f}" for name in ("train/loss", "train/acc", "val/acc", "test/acc")]
    found = re.findall(
        r"^best epoch (.) of 3: loss (.*), train acc (.*), val acc (.*), test acc (.*)$", done.stdout, re.M
    )
    assert found == [(str(best["epoch"] + 1), *shown)]


@pytest.mark.thorough
def test_two_processes_train_in_one_folder_with_exact_test_metrics(
    fashion_vgg: Command, data_root: Path, tmp_path: Path
) -> None:
    small = [
        *(f"data.root={data_root}", "model.ratio=16", "model.hidden=32", "model.dropout=0", "image_size=32"),
        *("batch_size=98", "trainer.max_epochs=1", "trainer.limit_train_batches=10"),  # 10,000 = 102 x 98 + 4
    ]
    runs = {}
    for trainer in (["trainer=cpu"], ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]):
        root = tmp_path / trainer[0]
        root.mkdir()
        done = fashion_vgg("train", *small, *trainer, root=root)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.count("examples/sec") == 1
        runs[trainer[0]] = only(root, "outputs/train/*/*")
    one, two = runs.values()
    tested = fashion_vgg("test", f"weights={two}")
    assert (tested.returncode, tested.stderr) == (0, "")
    assert "Equal to the recorded values." in tested.stdout
    assert read_summary(two)["devices"] == 2
    right = read_summary(two)["final"]["test/acc"] * 10_000
    assert right == pytest.approx(10_000 * accuracy_by_hand(two, "last.ckpt"), abs=0.01)
    # The batches are the same, so the two trainings differ only by float32 rounding over ten steps.
    assert read_summary(two)["final"]["train/loss"] == pytest.approx(read_summary(one)["final"]["train/loss"], rel=1e-5)
    for (name, value), other in zip(weights(one).items(), weights(two).values(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=2e-5, msg=name)


@pytest.mark.thorough
def test_a_sweep_leaves_a_folder_per_run_named_after_its_overrides(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    overrides = ["experiment=speedrun", "optimizer.lr=0.1,0.2", *tiny, "trainer.max_epochs=1"]
    done = fashion_vgg("train", "-m", *overrides, root=tmp_path)
    assert done.returncode == 0, done.stderr
    sweep = only(tmp_path, "outputs/sweeps/*/*")
    names = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert names == ["lr=0.1", "lr=0.2"]
    assert [read_summary(sweep / name)["epochs"] for name in names] == [1, 1]
    runs: Any = EventMultiplexer().AddRunsFromDirectory(str(sweep)).Reload().Runs()
    assert sorted(runs) == names
    assert all(set(run["scalars"]) == {tag(name) for name in METRICS} for run in runs.values())


def test_a_terminal_shows_a_progress_bar_below_the_lines(
    fashion_vgg: Command, run: Path, tiny: list[str], tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 150))
    process = fashion_vgg.start("train", *tiny, root=tmp_path, stdout=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while chunk := os.read(ours, 65_536):
            shown += chunk
    os.close(ours)
    assert process.result().returncode == 0
    assert re.search(rb"epoch 1/2: 100%.* 8/8 .*loss=\d\.\d{3}", shown)
    assert re.search(rb"\r +\repoch  1/2  train/loss \d\.\d{3} ", shown)  # in place of the bar
    assert shown.rstrip().endswith(b"examples/sec on cpu")
    plain = (run.parents[3] / "stdout").read_text()
    assert "8/8" not in plain
    assert "epoch  1/2" in plain


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_training_has_the_losses_and_the_checkpoint_keys_of_a_plain_one(
    fashion_vgg: Command, data_root: Path, tmp_path: Path
) -> None:
    few = [f"data.root={data_root}", "trainer=cpu", "batch_size=16", "image_size=32"]
    few += ["model.ratio=16", "model.hidden=64", "trainer.max_epochs=1", "trainer.limit_train_batches=20"]
    few += ["trainer.limit_val_batches=2", "model.dropout=0"]
    rows, keys = [], []
    for settings in (["experiment=d2l"], ["experiment=d2l_fast", "trainer.precision=32-true"]):
        root = tmp_path / settings[0]
        root.mkdir()
        done = fashion_vgg("train", *settings, *few, root=root)
        assert done.returncode == 0, done.stderr
        run = only(root, "outputs/train/*/*")
        rows.append(read_summary(run)["final"])
        keys.append(list(torch.load(run / "last.ckpt", weights_only=True)["state_dict"]))
    assert rows[1]["train/loss"] == pytest.approx(rows[0]["train/loss"], rel=1e-5)
    assert rows[1]["test/loss"] == pytest.approx(rows[0]["test/loss"], rel=1e-5)
    assert keys[0] == keys[1]


def test_the_experiment_best_trains(fashion_vgg: Command, data_root: Path, tmp_path: Path) -> None:
    few = ["trainer=cpu", "model.ratio=16", "trainer.max_epochs=2", "trainer.limit_train_batches=2"]
    few += ["batch_size=16", "trainer.limit_val_batches=2", f"data.root={data_root}"]
    done = fashion_vgg("train", "experiment=best", *few, root=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_summary(only(tmp_path, "outputs/train/*/*"))["epochs"] == 2


def test_a_slow_training_is_reported_before_its_first_step(fashion_vgg: Command, data_root: Path) -> None:
    overrides = ["experiment=d2l", "trainer=cpu", f"data.root={data_root}"]
    overrides += ["callbacks.slow_run_notice.longer_than_minutes=1"]  # for a machine of many cores
    process = fashion_vgg.start("train", *overrides)
    process.wait_until(lambda: process.stdout.count("\n") >= 3)
    first, second, third = process.stdout.splitlines(keepends=True)
    assert first.startswith("Results go to ")
    assert re.fullmatch(
        r"No GPU is used: this training will take about (\d+\.\d hours|\d+ minutes) on the CPU\.\n", second
    )
    assert third == "For a result within minutes: fashion-vgg train experiment=speedrun\n"


@pytest.mark.long
def test_max_steps_within_an_epoch_leaves_a_complete_folder(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    done = fashion_vgg("train", *tiny, "trainer.max_steps=11", root=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only(tmp_path, "outputs/train/*/*")
    assert torch.load(run / "last.ckpt", weights_only=True)["global_step"] == 11
    assert read_summary(run)["epochs"] == 2


@pytest.mark.long
def test_a_training_without_an_evaluation_says_that_the_last_weights_are_tested(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    done = fashion_vgg("train", *tiny, "data.val_size=600", "trainer.max_steps=1", root=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "There was no evaluation on the validation split: the last weights are tested." in done.stdout
    run = only(tmp_path, "outputs/train/*/*")
    accuracy = read_summary(run)["final"]["test/acc"]
    assert re.search(rf"^loss .*, train acc .*, test acc {accuracy:.3f}$", done.stdout, re.MULTILINE)
    assert not (run / "best.ckpt").exists()


@pytest.mark.thorough
def test_the_experiment_d2l_has_the_books_first_losses(fashion_vgg: Command, data_root: Path, tmp_path: Path) -> None:
    few = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer=cpu"]
    done = fashion_vgg("train", "experiment=d2l", f"data.root={data_root}", *few, root=tmp_path)
    assert done.returncode == 0, done.stderr
    final = read_summary(only(tmp_path, "outputs/train/*/*"))["final"]
    datamodule = FashionMNISTDataModule(str(data_root), image_size=224, batch_size=128)
    datamodule.setup("fit")
    batches = [datamodule.on_after_batch_transfer(batch, 0) for batch in islice(datamodule.train_dataloader(), 2)]
    torch.manual_seed(0)
    losses, accuracy = d2l.train(d2l.vgg(d2l.NARROW), each_reseeded(batches), lr=0.05)
    assert final["train/loss"] == pytest.approx(sum(losses) / 2, rel=2e-4)  # float32, see tests/training
    assert final["train/acc"] == pytest.approx(accuracy)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", pytest.param("bf16-true", marks=pytest.mark.thorough)])
def test_every_precision_trains(fashion_vgg: Command, tiny: list[str], tmp_path: Path, precision: str) -> None:
    few = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
    done = fashion_vgg("train", *tiny, *few, f"trainer.precision={precision}", root=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_it_is_silent_on_a_machine_with_slurm(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    env = {"PATH": path_with_srun(tmp_path)}
    done = fashion_vgg("train", *tiny, "trainer.max_steps=1", root=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_trains_without_loggers_and_callbacks(
    fashion_vgg: Command, tiny_with_plots: list[str], tmp_path: Path
) -> None:
    done = fashion_vgg("train", *tiny_with_plots, "~logger", "~callbacks", root=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only(tmp_path, "outputs/train/*/*")
    assert read_summary(run)["epochs"] == 2
    assert not list(run.glob("events*"))
