"""The book's training through ImageClassifier and Trainer, compared with the book's own loop."""

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from fashion_vgg.checkpoints.records import read_metrics
from fashion_vgg.data import FashionMNISTDataModule
from fashion_vgg.models import VGG
from fashion_vgg.reference import d2l
from fashion_vgg.training import ImageClassifier, ResultPlot, SlowRunNotice
from fashion_vgg.training.callbacks import slow_run_notice
from fashion_vgg.training.callbacks.result_plot import plot_metrics
from fashion_vgg.training.metrics import EpochMetrics
from tests.helpers import each_reseeded, small_classifier, small_datamodule, trainer_for

ROUNDING = 2e-4
"""Relative rounding of a float32 loss: eps = 1.2e-7, times the square root of the longest sum, 25,088 products, times
11 layers."""


class Losses(L.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].item())


def train_loader(datamodule: FashionMNISTDataModule) -> Any:
    batches: Any = datamodule.train_dataloader()
    batches.sampler.set_epoch(0)
    return batches


@pytest.mark.long
def test_the_first_losses_at_224_px_are_the_books(data_root: Path, tmp_path: Path) -> None:
    datamodule = FashionMNISTDataModule(str(data_root), image_size=224, batch_size=16)
    torch.manual_seed(0)
    classifier = ImageClassifier(VGG(d2l.VGG11, ratio=4), partial(SGD, lr=0.05))
    losses = Losses()
    notice = SlowRunNotice(longer_than_minutes=30, quick_command="...")
    trainer, history = trainer_for(tmp_path, notice, losses, limit_train_batches=4, limit_val_batches=0)
    trainer.fit(classifier, datamodule)

    batches = [datamodule.on_after_batch_transfer(b, 0) for b, _ in zip(train_loader(datamodule), range(4))]  # noqa: B905
    torch.manual_seed(0)
    expected, accuracy = d2l.train(d2l.vgg(d2l.NARROW), each_reseeded(batches), lr=0.05)
    assert losses.losses == pytest.approx(expected, rel=ROUNDING)
    assert history.rows[0]["train/loss"] == pytest.approx(sum(losses.losses) / 4, rel=1e-6)
    assert history.rows[0]["train/acc"] == pytest.approx(accuracy)


@pytest.mark.long
def test_epoch_means_weigh_all_images_equally_and_cover_the_whole_test_set(data_root: Path, tmp_path: Path) -> None:
    datamodule = small_datamodule(data_root, batch_size=7_000)  # the last batch of both sets is smaller
    torch.manual_seed(0)
    classifier = small_classifier()
    losses = Losses()
    trainer, history = trainer_for(tmp_path, losses)
    trainer.fit(classifier, datamodule)

    sizes = [7_000] * 8 + [4_000]
    mean = sum(loss * size for loss, size in zip(losses.losses, sizes, strict=True)) / 60_000
    assert history.rows[0]["train/loss"] == pytest.approx(mean, rel=1e-5)
    images, labels = datamodule.on_after_batch_transfer(datamodule.test_set[:], 0)
    with torch.no_grad():
        logits = classifier.eval()(images)
    correct = int((logits.argmax(1) == labels).sum())
    assert history.rows[0]["test/acc"] == pytest.approx(correct / 10_000, abs=1e-7)
    assert history.rows[0]["test/loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_there_is_a_row_per_epoch_without_stale_metrics(data_root: Path, tmp_path: Path) -> None:
    trainer, history = trainer_for(
        tmp_path, max_epochs=4, check_val_every_n_epoch=2, limit_train_batches=3, limit_val_batches=2
    )
    trainer.fit(small_classifier(), small_datamodule(data_root))
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
    assert ["test/acc" in row for row in history.rows] == [False, True, False, True]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,train/loss,train/acc,images_per_sec,lr,test/loss,test/acc"
    assert len(lines) == 5


def test_the_schedule_updates_every_step_and_the_last_rate_is_logged(data_root: Path, tmp_path: Path) -> None:
    schedule = partial(OneCycleLR, max_lr=0.1, anneal_strategy="linear", cycle_momentum=False)
    trainer, history = trainer_for(tmp_path, max_epochs=2, limit_train_batches=5, limit_val_batches=0)
    trainer.fit(small_classifier(scheduler=schedule), small_datamodule(data_root))
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    reference = schedule(optimizer, total_steps=10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert [row["lr"] for row in history.rows] == pytest.approx([rates[4], rates[9]], rel=1e-6)


def test_only_the_training_loss_is_smoothed(data_root: Path, tmp_path: Path) -> None:
    datamodule = small_datamodule(data_root)
    classifier = small_classifier(dropout=0.0, label_smoothing=0.3, optimizer=partial(SGD, lr=1e-30))
    trainer, history = trainer_for(tmp_path, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(classifier, datamodule)
    for stage, smoothing in [("train", 0.3), ("test", 0.0)]:
        batches = train_loader(datamodule) if stage == "train" else datamodule.val_dataloader()
        images, labels = datamodule.on_after_batch_transfer(next(iter(batches)), 0)
        loss = F.cross_entropy(classifier(images), labels, label_smoothing=smoothing)
        assert history.rows[0][f"{stage}/loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_a_resumed_training_keeps_its_earlier_rows(data_root: Path, tmp_path: Path) -> None:
    few = {"limit_train_batches": 2, "limit_val_batches": 1}
    first, _ = trainer_for(tmp_path, max_epochs=2, **few)
    first.fit(small_classifier(), small_datamodule(data_root))
    first.save_checkpoint(tmp_path / "two.ckpt")
    second, history = trainer_for(tmp_path, max_epochs=3, **few)
    second.fit(small_classifier(), small_datamodule(data_root), ckpt_path=tmp_path / "two.ckpt")
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_slow_run_notice_changes_nothing(
    data_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    weights = []
    for minutes in (1e9, 0.0):
        caplog.clear()
        torch.manual_seed(0)
        classifier = small_classifier()
        notice = SlowRunNotice(longer_than_minutes=minutes, quick_command="the quick way")
        trainer, _ = trainer_for(tmp_path, notice, limit_train_batches=3, limit_val_batches=0)
        trainer.fit(classifier, small_datamodule(data_root, num_workers=workers))
        weights.append(torch.cat([parameter.flatten() for parameter in classifier.parameters()]))
    assert torch.equal(*weights)
    assert "will take about 0 minutes on the CPU.\nFor a result within minutes: the quick way" in caplog.text


@pytest.mark.parametrize(
    ("settings", "epochs", "evaluations"),
    [
        ({}, 3, 3),
        ({"max_steps": 3}, 1.5, 1.5),
        ({"val_check_interval": 0.5}, 3, 6),
    ],
)
def test_the_estimate_counts_training_and_evaluation_steps(
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    epochs: float,
    evaluations: float,
) -> None:
    monkeypatch.setattr(slow_run_notice, "_step_seconds", lambda net, images, labels: float(len(labels)))

    class Estimate(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.seconds = slow_run_notice.estimated_seconds(trainer, pl_module)

    estimate = Estimate()
    few = {"max_epochs": 3, "limit_train_batches": 2, "limit_val_batches": 3, **settings}
    trainer, _ = trainer_for(tmp_path, estimate, **few)
    trainer.fit(small_classifier(), small_datamodule(data_root, batch_size=40))
    images = 40 * (2 * epochs + 3 * evaluations / 3)  # an image takes a second, or a third in an evaluation
    assert estimate.seconds == pytest.approx(images)


def test_the_speed_leaves_out_evaluations_within_an_epoch(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    spending = LambdaCallback(on_train_batch_start=lambda *_: spend(1), on_validation_batch_start=lambda *_: spend(100))
    few = {"limit_train_batches": 8, "limit_val_batches": 2, "val_check_interval": 0.25}
    trainer, history = trainer_for(tmp_path, spending, **few)
    trainer.fit(small_classifier(), small_datamodule(data_root, batch_size=40))
    assert history.rows[0]["images_per_sec"] == 40


def test_an_epochs_loss_is_summed_in_float32_in_any_precision() -> None:
    metrics = EpochMetrics("train").to(torch.bfloat16)
    metrics.reset()
    loss = torch.tensor(0.5, dtype=torch.bfloat16)
    for _ in range(500):
        metrics.update(loss, torch.zeros(128, 10), torch.zeros(128, dtype=torch.long))
    assert metrics.compute()["train/loss"].item() == 0.5


def curves_of(axes: Any) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}


def test_each_process_restores_its_own_sums_and_a_single_one_their_total() -> None:
    saved = {"loss": torch.tensor([0.25, 0.5]), "correct": torch.tensor([3, 4]), "images": torch.tensor([8, 8])}
    for rank in range(2):
        metrics = EpochMetrics("train")
        metrics.restore(saved, SimpleNamespace(world_size=2, global_rank=rank))
        assert {name: getattr(metrics, name) for name in saved} == {name: row[rank] for name, row in saved.items()}
    single = EpochMetrics("train")
    single.restore(saved, SimpleNamespace(world_size=1, global_rank=0))
    assert single.compute() == {"train/loss": 0.75 / 16, "train/acc": 7 / 16}


def test_the_result_plot_has_the_rows_points() -> None:
    rows = [
        {"epoch": 1, "train/loss": 2.0, "train/acc": 0.3},
        {"epoch": 2, "train/loss": 1.0, "train/acc": 0.6, "test/acc": 0.7, "lr": 0.1},
        {"epoch": 3, "train/loss": 0.5, "train/acc": 0.8},
    ]
    figure = plot_metrics(rows, "VGG-11")
    assert figure.get_suptitle() == "VGG-11"
    loss, accuracy = figure.axes
    assert curves_of(loss) == {"train 0.500": [[1, 2.0], [2, 1.0], [3, 0.5]]}
    assert curves_of(accuracy) == {"train 0.800": [[1, 0.3], [2, 0.6], [3, 0.8]], "test 0.700": [[2, 0.7]]}
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy")
    assert loss.lines[0].get_color() == accuracy.lines[0].get_color() != accuracy.lines[1].get_color()


def test_the_result_plot_marks_the_best_epoch_on_the_validation_split() -> None:
    accuracies = [0.6, 0.8, 0.9, 0.9, 0.7]
    rows = [{"epoch": epoch, "val/acc": value, "val/loss": 1.0} for epoch, value in enumerate(accuracies, start=1)]
    for axes in plot_metrics([*rows, {"epoch": 6, "train/loss": 0.1}]).axes:
        assert [x for x, _ in curves_of(axes)["best epoch 3"]] == [3, 3]  # the first, as ModelCheckpoint saves it


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_result_plot_needs_no_other_callback(data_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    settings: dict[str, Any] = {"limit_train_batches": 2, "limit_val_batches": 1, "log_every_n_steps": 1}
    settings |= {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"accelerator": "cpu", "default_root_dir": tmp_path}
    for epochs in (1, 3):  # the second time resumed
        checkpoint = next(tmp_path.glob("checkpoints/*.ckpt"), None)
        trainer = L.Trainer(max_epochs=epochs, callbacks=[ResultPlot(str(folder))], **settings)
        trainer.fit(small_classifier(), small_datamodule(data_root), ckpt_path=checkpoint)
        assert [row["epoch"] for row in read_metrics(folder)] == list(range(1, epochs + 1))
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.csv", "result.png", "result.svg"]


def test_without_an_epoch_there_is_no_result_plot(tmp_path: Path) -> None:
    ResultPlot(str(tmp_path)).on_fit_end(L.Trainer(logger=False, accelerator="cpu"), small_classifier())
    assert not list(tmp_path.iterdir())
