"""Fits the whitening layer of a network to the training images, before the first step."""

from typing import Any

import lightning as L

from fashion_vgg.models.whitening import whiten

IMAGES = 500


class Whitening(L.Callback):
    """Sets the filters of a network's `WhiteningConv2d` from the first training images; leaves other networks alone.

    Filters that were loaded as initial weights stay, too. A checkpoint that is resumed replaces them afterwards.
    """

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit":
            whiten(pl_module.net, lambda: data.preprocess(data.train_set[:IMAGES][0]))
