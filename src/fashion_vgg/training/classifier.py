"""The LightningModule: loss, metrics and optimizer around a network that classifies images."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from fashion_vgg.checkpoints.weights import fitting

Stage = Literal["train", "val", "test"]


class EpochMetrics(Metric):
    """Mean loss and accuracy over the images of an epoch, as ``<stage>/loss`` and ``<stage>/acc``.

    Three sums on the device, which no step waits for: a collection of torchmetrics' own takes several times as long. A
    loss that is not a number stays one.
    """

    loss: Tensor
    right: Tensor
    images: Tensor

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.add_state("loss", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, its logits ``(N, classes)`` and its labels ``(N,)``."""
        self.loss += loss * len(labels)
        self.right += (logits.argmax(dim=1) == labels).sum()
        self.images += len(labels)

    def _apply(self, *args: Any, **kwargs: Any) -> "EpochMetrics":
        # A "true" half precision casts every module, and a sum over an epoch would drown in bfloat16's eight bits.
        super()._apply(*args, **kwargs)
        self.loss = self.loss.float()
        self._defaults["loss"] = torch.tensor(0.0)
        return self

    @property
    def sums(self) -> dict[str, Tensor]:
        """The state, to save it and to set it."""
        return {name: getattr(self, name).clone() for name in self._defaults}

    @sums.setter
    def sums(self, sums: dict[str, Tensor]) -> None:
        for name in self._defaults:
            setattr(self, name, sums[name].to(self.device))
        self._update_count = 1  # or torchmetrics warns that there is nothing to compute

    def compute(self) -> dict[str, Tensor]:
        return {f"{self.stage}/loss": self.loss / self.images, f"{self.stage}/acc": self.right / self.images}


class ImageClassifier(L.LightningModule):
    """Trains ``net`` with cross-entropy and logs one row of figures an epoch, on the epoch's axis.

    Every epoch logs ``train/loss`` and ``train/acc``, the means over the epoch's steps with dropout on, as the seed
    keeps them; ``lr``, the learning rate of the last step; and ``test/loss`` and ``test/acc`` over the whole test
    set, or ``val/...`` where the data module holds out a validation split.

    Args:
        net: images ``(N, C, H, W)`` to logits ``(N, classes)``.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes a schedule that moves after every step, from the optimizer and ``total_steps``.
        label_smoothing: of the training loss; the other losses are plain cross-entropy.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = net
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.label_smoothing = label_smoothing
        # Attributes and not a ModuleDict, which takes no key named "train".
        self.train_metrics = EpochMetrics("train")
        self.val_metrics = EpochMetrics("val")
        self.test_metrics = EpochMetrics("test")
        self._lr = math.nan

    def forward(self, images: Tensor) -> Tensor:
        # Its dtype is what a "true" precision of the Trainer makes it; a mixed one leaves it float32, for the loss too.
        logits: Tensor = self.net(images.to(self.dtype)).to(self.dtype)
        return logits

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
        # For the progress bar and for callbacks; the loggers get it with the training figures, in one row.
        self._log(self.metrics_of(self.eval_stage).compute(), to_loggers=False)

    def on_train_epoch_end(self) -> None:
        row: dict[str, Any] = self.metrics_of("train").compute()
        if self.metrics_of(self.eval_stage).update_called:
            row |= self.metrics_of(self.eval_stage).compute()
        row["lr"] = self._lr
        self._log(row)
        # Lightning takes a figure of this name as the row's place on the loggers' axis.
        self.log("step", float(self.current_epoch + 1), sync_dist=True)

    def on_test_epoch_end(self) -> None:
        self._log(self.metrics_of("test").compute(), to_loggers=False)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.net.parameters())
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Of the epoch so far, over all processes.
        with self.train_metrics.sync_context():
            checkpoint["train_metrics"] = self.train_metrics.sums
        checkpoint["lr"] = self._lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = fitting(checkpoint["state_dict"], self)
        self._lr = checkpoint.get("lr", math.nan)
        if "train_metrics" in checkpoint and self.global_rank == 0:  # not there in checkpoints of early versions
            self.train_metrics.sums = checkpoint["train_metrics"]

    @property
    def eval_stage(self) -> Stage:
        """What is scored after every epoch: the data module knows."""
        stage: Stage = getattr(self.trainer.datamodule, "eval_stage", "val")  # type: ignore[attr-defined]
        return stage

    def metrics_of(self, stage: Stage) -> EpochMetrics:
        """Loss and accuracy of a stage since its epoch began."""
        return {"train": self.train_metrics, "val": self.val_metrics, "test": self.test_metrics}[stage]

    def _step(self, batch: tuple[Tensor, Tensor], stage: Stage) -> dict[str, Tensor]:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing if stage == "train" else 0.0)
        self.metrics_of(stage).update(loss.detach(), logits.detach(), labels)
        return {"loss": loss, "logits": logits}

    def _log(self, row: dict[str, Any], to_loggers: bool = True) -> None:
        # sync_dist: the figures are equal in all processes by now, and Lightning warns without it.
        self.log_dict(row, prog_bar=True, logger=None if to_loggers else False, sync_dist=True)
