"""The book's plot of a training: train loss, train accuracy and test accuracy by epoch."""

from collections.abc import Sequence
from pathlib import Path

import lightning as L
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fashion_vgg import atomic
from fashion_vgg.checkpoints.run_folder import read_metrics
from fashion_vgg.training import tensorboard

CURVES = {"train/loss": "-", "train/acc": "--", "val/acc": "-.", "test/acc": "-."}
"""The metrics that are plotted, and their line styles."""


class ResultPlot(L.Callback):
    """Plots the run's ``metrics.csv`` after training: ``result.png``, ``result.svg``, and an image in TensorBoard.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    # Not on_train_end, which Lightning skips for a run that is resumed after its last step.
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows = read_metrics(self.folder) if trainer.is_global_zero else []
        if not rows:
            return
        figure = plot_metrics(rows)
        for suffix in ("png", "svg"):
            with atomic.writing(self.folder / f"result.{suffix}") as file:
                figure.savefig(file, format=suffix, dpi=150)
        for writer in tensorboard.writers(trainer):
            writer.add_figure("plots/result", figure, global_step=len(rows), close=False)


def plot_metrics(rows: Sequence[dict[str, float]]) -> Figure:
    """Plot the curves of a run's rows; a metric that the run did not log has none."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for name, style in CURVES.items():
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        if points:
            label = f"{name.replace('/', ' ')} {points[-1][1]:.3f}"
            axes.plot(*zip(*points, strict=True), style, marker=".", label=label)
    axes.set(xlabel="epoch", xlim=(0.9, rows[-1]["epoch"] + 0.1), ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.4)
    axes.legend()
    return figure
