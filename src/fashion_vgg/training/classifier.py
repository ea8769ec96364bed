"""The LightningModule: loss, metrics and optimizer around a network that classifies images."""

import math
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fashion_vgg.checkpoints.weights import matching
from fashion_vgg.data.seeds import derive_seed, reseed
from fashion_vgg.training import schedules
from fashion_vgg.training.metrics import EpochMetrics, Stage
from fashion_vgg.training.schedules import Interval, Schedule


class ImageClassifier(L.LightningModule):
    """Trains a network with cross-entropy and logs one row of metrics per epoch.

    Each epoch logs ``train/loss`` and ``train/acc``, the means over its steps with dropout on, as in the book;
    ``lr``, the learning rate of its last step; and ``test/loss`` and ``test/acc`` over the test set, or ``val/...`` if
    the data module holds out a validation split.

    Args:
        net: maps images ``(N, C, H, W)`` to logits ``(N, classes)``.
        optimizer: creates the optimizer from the parameters.
        scheduler: creates a learning rate schedule from the optimizer, and from ``total_steps``, the number of its
            updates, if it has a parameter of this name. None, or an empty mapping, keeps the learning rate constant.
        scheduler_interval: ``step`` or ``epoch``: when the schedule is updated. By default after every step if it takes
            ``total_steps``, otherwise after every epoch.
        scheduler_monitor: the metric of the epoch that `ReduceLROnPlateau` receives; no other schedule needs one.
        label_smoothing: of the training loss only.
        seed: of augmentation and dropout; their random numbers depend only on the seed, the step and the process.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Schedule | None = None,
        scheduler_interval: Interval | None = None,
        scheduler_monitor: str = "val/loss",
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = net
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.scheduler_interval = scheduler_interval or (
            schedules.default_interval(scheduler) if scheduler else "epoch"
        )
        self.scheduler_monitor = scheduler_monitor
        self.label_smoothing = label_smoothing
        self.seed = seed
        # Attributes rather than a ModuleDict, which rejects the key "train".
        self.train_metrics = EpochMetrics("train")
        self.val_metrics = EpochMetrics("val")
        self.test_metrics = EpochMetrics("test")
        self._lr = math.nan

    def forward(self, images: Tensor) -> Tensor:
        # The parameters' dtype: float32 in a mixed precision, for the loss too; bfloat16 in bf16-true.
        logits: Tensor = self.net(images.to(self.dtype)).to(self.dtype)
        return logits

    def setup(self, stage: str) -> None:
        # Intended: the data module seeds only its order.
        warnings.filterwarnings("ignore", ".*overridden `on_before_batch_transfer` in `LightningModule` but")

    def on_before_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        # The first hook of a step: augmentation and dropout draw their random numbers after it.
        if self.trainer.training:
            step = self.trainer.fit_loop.total_batch_idx + 1
            reseed(derive_seed(self.seed, step, self.trainer.global_rank), self.trainer.strategy.root_device)
        return batch

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self._lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        return self._step(batch, "train")["loss"]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, self.eval_stage)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "test")

    def on_train_epoch_start(self) -> None:
        for stage in ("train", self.eval_stage):
            self.metrics_of(stage).reset()

    def on_validation_epoch_start(self) -> None:
        self.metrics_of(self.eval_stage).reset()

    def on_test_epoch_start(self) -> None:
        self.metrics_of("test").reset()

    def on_validation_epoch_end(self) -> None:
        # For callbacks; the loggers receive it together with the training metrics.
        self._log(self.metrics_of(self.eval_stage).compute())

    def on_train_epoch_end(self) -> None:
        row: dict[str, Any] = self.metrics_of("train").compute()
        if self.metrics_of(self.eval_stage).update_called:
            row |= self.metrics_of(self.eval_stage).compute()
        row["lr"] = self._lr
        self._log(row)
        if self.make_scheduler and self.scheduler_interval == "epoch":
            self._step_schedule(row)
        # Not through Lightning, which would log them by the step.
        for logger in self.loggers:
            logger.log_metrics({name: float(value) for name, value in row.items()}, step=self.current_epoch + 1)

    def on_test_epoch_end(self) -> None:
        self._log(self.metrics_of("test").compute())

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.net.parameters())
        if not self.make_scheduler:
            return optimizer
        by_step = self.scheduler_interval == "step"
        updates: Any = self.trainer.estimated_stepping_batches if by_step else self.trainer.max_epochs
        scheduler = schedules.create(self.make_scheduler, optimizer, int(updates))
        # Lightning would update a schedule by the epoch after the epoch's checkpoint, which then resumes with the old
        # learning rate: on_train_epoch_end does it, and Lightning never.
        options = {"interval": self.scheduler_interval, "frequency": 1 if by_step else sys.maxsize}
        monitor = {"monitor": self.scheduler_monitor}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **options, **monitor}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Within an epoch: its sums so far.
        strategy = self.trainer.strategy
        evaluated = self.metrics_of(self.eval_stage)  # several times within an epoch with val_check_interval
        checkpoint["train_metrics"] = self.train_metrics.saved(strategy)
        sums = evaluated.saved(strategy)
        checkpoint["eval_metrics"] = sums if evaluated.update_called else None
        checkpoint["lr"] = self._lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = matching(checkpoint["state_dict"], self)
        self._lr = checkpoint["lr"]
        self.train_metrics.restore(checkpoint["train_metrics"], self.trainer.strategy)
        if sums := checkpoint["eval_metrics"]:
            self.metrics_of(self.eval_stage).restore(sums, self.trainer.strategy)

    @property
    def eval_stage(self) -> Stage:
        """The split that is evaluated after every epoch, as the data module defines it."""
        stage: Stage = getattr(self.trainer.datamodule, "eval_stage", "val")  # type: ignore[attr-defined]
        return stage

    def metrics_of(self, stage: Stage) -> EpochMetrics:
        """The metrics of a stage in the current epoch."""
        return {"train": self.train_metrics, "val": self.val_metrics, "test": self.test_metrics}[stage]

    def _step(self, batch: tuple[Tensor, Tensor], stage: Stage) -> dict[str, Tensor]:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing if stage == "train" else 0.0)
        self.metrics_of(stage).update(loss.detach(), logits.detach(), labels)
        return {"loss": loss, "logits": logits}

    def _step_schedule(self, row: dict[str, Tensor]) -> None:
        scheduler: Any = self.lr_schedulers()
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        elif self.scheduler_monitor in row:  # not in an epoch without an evaluation
            scheduler.step(row[self.scheduler_monitor])

    def _log(self, row: dict[str, Any]) -> None:
        # sync_dist: the values are equal in all processes already, but Lightning warns without it.
        self.log_dict(row, logger=False, sync_dist=True)
