"""Loss and accuracy of each class."""

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F


class ClassMetrics(L.Callback):
    """Adds up the loss and the correct predictions of a test by class, over all processes.

    Attributes:
        images, loss, correct: sums of each class, ``(classes,)``, available after the test.
    """

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._sums: Any = 0.0

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        logits, labels = outputs["logits"].float(), batch[1]  # bfloat16 counts to 256
        losses = F.cross_entropy(logits, labels, reduction="none")
        values = torch.stack([torch.ones_like(losses), losses, logits.argmax(dim=1) == labels])
        self._sums = self._sums + values.new_zeros(3, logits.shape[1]).index_add_(1, labels, values)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.images, self.loss, self.correct = trainer.strategy.reduce(self._sums, reduce_op="sum").cpu()
