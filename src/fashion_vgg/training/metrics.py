"""Loss and accuracy over an epoch."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

Stage = Literal["train", "val", "test"]

QUANTITIES = {"loss": "loss", "acc": "accuracy"}
"""The metrics of an epoch, as in ``train/acc``, and their names in plots."""


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

    def saved(self, strategy: Any) -> dict[str, Tensor]:
        """The sums of each process, ``(processes,)``: continued from their total, they would be rounded differently."""
        sums = {}
        for name in self._defaults:
            row = getattr(self, name).new_zeros(strategy.world_size)
            row[strategy.global_rank] = getattr(self, name)
            sums[name] = strategy.reduce(row, reduce_op="sum")
        return sums

    def restore(self, saved: dict[str, Tensor], strategy: Any) -> None:
        """Restore a process's sums; if the number of processes has changed, the first one's are the total."""
        rows = {name: saved[name] for name in self._defaults}
        if len({row.shape for row in rows.values()}) != 1:
            raise ValueError("the sums of its metrics are of different shapes.")
        for name, row in rows.items():
            if len(row) == strategy.world_size:
                setattr(self, name, row[strategy.global_rank].to(self.device))
            elif strategy.global_rank == 0:
                setattr(self, name, row.sum().to(self.device))
        self._update_count = 1  # or torchmetrics warns that there is nothing to compute

    def _apply(self, *args: Any, **kwargs: Any) -> "EpochMetrics":
        # A precision such as bf16-true casts every module; eight bits are too few for a sum over an epoch.
        super()._apply(*args, **kwargs)
        self.loss = self.loss.float()
        self._defaults["loss"] = torch.tensor(0.0)
        return self
