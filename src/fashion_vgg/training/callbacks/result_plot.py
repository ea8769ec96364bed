"""The plot of a training: loss and accuracy by epoch."""

from collections.abc import Sequence
from pathlib import Path

import lightning as L
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fashion_vgg import atomic
from fashion_vgg.checkpoints.records import read_metrics
from fashion_vgg.training.callbacks import figures
from fashion_vgg.training.callbacks.history import History
from fashion_vgg.training.metrics import QUANTITIES

COLORS = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}


class ResultPlot(L.Callback):
    """Plots the run's ``metrics.csv`` after training: ``result.png``, ``result.svg``, and an image in TensorBoard.

    `History` writes that file; a Trainer without it gets one.

    Args:
        folder: of the run.
        title: of the plot.
    """

    def __init__(self, folder: str, title: str = "") -> None:
        self.folder, self.title = Path(folder), title

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if stage == "fit" and not any(isinstance(callback, History) for callback in callbacks):
            self.folder.mkdir(parents=True, exist_ok=True)
            # After this callback, thus before the checkpoint callbacks, whose checkpoints then have their epoch's row.
            callbacks.insert(callbacks.index(self) + 1, History(str(self.folder)))

    # Not on_train_end, which Lightning skips for a run that is resumed after its last step.
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows = read_metrics(self.folder) if trainer.is_global_zero else []
        if not rows:
            return
        figure = plot_metrics(rows, self.title)
        figures.write(trainer, "result", figure, len(rows), self.folder)
        with atomic.writing(self.folder / "result.svg") as file:
            figure.savefig(file, format="svg")


def plot_metrics(rows: Sequence[dict[str, float]], title: str = "") -> Figure:
    """Plot the curves of a run's rows, and mark the epoch with the highest validation accuracy.

    A metric that the run did not log has no curve.
    """
    validated = [row for row in rows if "val/acc" in row]
    best = max(validated, key=lambda row: row["val/acc"])["epoch"] if validated else None
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    figure.suptitle(title)
    for axes, (metric, label) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        for split, color in COLORS.items():
            points = [(row["epoch"], row[f"{split}/{metric}"]) for row in rows if f"{split}/{metric}" in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, marker=".", label=f"{split} {points[-1][1]:.3f}")
        if best:
            axes.axvline(best, color="0.3", linestyle=":", label=f"best epoch {best:.0f}")
        axes.set(xlabel="epoch", ylabel=label, xlim=(0.5, rows[-1]["epoch"] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.4)
        if axes.lines:  # above the panel, where it covers no curve
            place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
            axes.legend(**place, ncols=4, fontsize="small", frameon=False, handlelength=1.5, columnspacing=1.2)
    return figure
