"""Each callback alone in a Trainer with Lightning's defaults, as in a notebook."""

import inspect
import math
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim import SGD

from fashion_vgg import training
from fashion_vgg.errors import UserError
from fashion_vgg.models import VGG
from fashion_vgg.training import ClassMetrics, FirstLayerFilters, ImageClassifier, StepCurves, WeightHistograms
from tests.helpers import small_classifier, small_datamodule, trainer_for

CALLBACKS = [item for item in vars(training).values() if isinstance(item, type) and issubclass(item, L.Callback)]


def with_required_arguments(callback: type[L.Callback], folder: Path) -> L.Callback:
    arguments = {"folder": str(folder / "a" / "run"), "longer_than_minutes": 0, "quick_command": "...", "every": 1}
    return callback(**{name: arguments[name] for name in inspect.signature(callback).parameters if name in arguments})


def test_a_default_checkpoint_is_named_after_its_step(data_root: Path, tmp_path: Path) -> None:
    net = VGG([(1, 8), (1, 8)], image_size=28, head="light")
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_epochs=2,
        limit_train_batches=3,
        limit_val_batches=1,
        log_every_n_steps=1,
    )
    trainer.fit(ImageClassifier(net, partial(SGD, lr=0.05)), small_datamodule(data_root))
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["epoch=1-step=6.ckpt"]


def test_curves_by_step_have_a_point_per_step_of_accumulated_gradients(data_root: Path, tmp_path: Path) -> None:
    trainer, _ = trainer_for(
        tmp_path, StepCurves(str(tmp_path), every=1), accumulate_grad_batches=2, limit_train_batches=6
    )
    trainer.fit(small_classifier(), small_datamodule(data_root))
    points = EventAccumulator(str(tmp_path / "steps")).Reload().Scalars("loss/train")
    assert [point.step for point in points] == [1, 2, 3]
    assert all(abs(point.value - math.log(10)) < 0.3 for point in points)  # of ten classes, barely trained


def test_the_images_of_a_class_are_counted_exactly_in_bfloat16() -> None:
    metrics, trainer, number = ClassMetrics(), Mock(), 1000
    trainer.strategy.reduce = lambda value, **_: value
    metrics.on_test_epoch_start(trainer, Mock())
    for _ in range(number):
        logits, labels = torch.eye(10, dtype=torch.bfloat16), torch.arange(10)
        metrics.on_test_batch_end(trainer, Mock(), {"logits": logits}, (Mock(), labels))
    metrics.on_test_epoch_end(trainer, Mock())
    assert metrics.images.tolist() == metrics.correct.tolist() == [number] * 10


def test_there_are_callbacks_to_check() -> None:
    assert len(CALLBACKS) >= 9


@pytest.mark.parametrize("val_size", [0, 1000])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_a_callback_needs_no_config_and_no_other_callback(
    data_root: Path, tmp_path: Path, callback: type[L.Callback], val_size: int
) -> None:
    net = VGG([(1, 8), (1, 8)], image_size=28, head="light", batch_norm=True, whitening=True)
    classifier, data = ImageClassifier(net, partial(SGD, lr=0.05)), small_datamodule(data_root, val_size=val_size)
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[with_required_arguments(callback, tmp_path)],
        default_root_dir=tmp_path,
        max_epochs=2,
        limit_train_batches=3,
        limit_val_batches=2,
        limit_test_batches=2,
        log_every_n_steps=1,
    )
    trainer.fit(classifier, data)
    trainer.test(classifier, data)
    assert trainer.global_step == 6


@pytest.mark.parametrize(
    ("callback", "logger", "message"),
    [
        (WeightHistograms, False, "WeightHistograms writes to TensorBoard"),
        (FirstLayerFilters, False, "FirstLayerFilters writes to TensorBoard"),
        (FirstLayerFilters, True, "Sequential has no convolution"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused_before_training(
    data_root: Path, tmp_path: Path, callback: type[L.Callback], logger: bool, message: str
) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[with_required_arguments(callback, tmp_path)],
        default_root_dir=tmp_path,
        logger=logger,
        max_epochs=1,
        limit_train_batches=1,
    )
    with pytest.raises(UserError, match=message):
        trainer.fit(ImageClassifier(net, partial(SGD, lr=0.05)), small_datamodule(data_root))
    assert trainer.global_step == 0
