"""Loss and accuracy over an epoch."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

Stage = Literal["train", "val", "test"]


class EpochMetrics(Metric):
    """Mean loss and accuracy over the images of an epoch, as ``<stage>/loss`` and ``<stage>/acc``.

    Three sums on the device, without a synchronization per step; a `torchmetrics.MetricCollection` takes several times
    as long. A NaN loss makes the mean NaN.
    """

    loss: Tensor
    correct: Tensor
    images: Tensor

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.add_state("loss", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, its logits ``(N, classes)`` and its labels ``(N,)``."""
        self.loss += loss * len(labels)
        self.correct += (logits.argmax(dim=1) == labels).sum()
        self.images += len(labels)

    def compute(self) -> dict[str, Tensor]:
        return {f"{self.stage}/loss": self.loss / self.images, f"{self.stage}/acc": self.correct / self.images}

    @property
    def sums(self) -> dict[str, Tensor]:
        """The state, to save and to restore."""
        return {name: getattr(self, name).clone() for name in self._defaults}

    @sums.setter
    def sums(self, sums: dict[str, Tensor]) -> None:
        for name in self._defaults:
            setattr(self, name, sums[name].reshape(()).to(self.device))
        self._update_count = 1  # or torchmetrics warns that there is nothing to compute

    def _apply(self, *args: Any, **kwargs: Any) -> "EpochMetrics":
        # A precision such as bf16-true casts every module; eight bits are too few for a sum over an epoch.
        super()._apply(*args, **kwargs)
        self.loss = self.loss.float()
        self._defaults["loss"] = torch.tensor(0.0)
        return self
