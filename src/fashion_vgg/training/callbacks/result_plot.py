"""The seed's result figure: train loss, train accuracy and test accuracy by epoch."""

from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fashion_vgg import atomic
from fashion_vgg.training.callbacks.history import History

CURVES = {"train/loss": "-", "train/acc": "--", "val/acc": "-.", "test/acc": "-."}


class ResultPlot(L.Callback):
    """Draws the history's curves when training ends: ``result.png``, ``result.svg``, and an image in TensorBoard."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    # Not when training ends: resumed after its last step, none begins.
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        rows = next(callback.rows for callback in trainer.callbacks if isinstance(callback, History))  # type: ignore[attr-defined]
        if not rows:
            return
        figure = draw(rows)
        for suffix in ("png", "svg"):
            with atomic.writing(self.folder / f"result.{suffix}") as file:
                figure.savefig(file, format=suffix, dpi=150)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("result", figure, global_step=len(rows), close=False)


def draw(rows: Sequence[dict[str, float]]) -> Figure:
    """The curves of a `History`'s rows; a figure that the run did not log has no curve."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for name, style in CURVES.items():
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(
                *zip(*points, strict=True), style, marker=".", label=f"{name.replace('/', ' ')} {points[-1][1]:.3f}"
            )
    axes.set(xlabel="epoch", xlim=(0.9, rows[-1]["epoch"] + 0.1), ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.4)
    axes.legend()
    return figure
