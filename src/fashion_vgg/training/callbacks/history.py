"""The figures of every epoch, kept for the picture and the summary, and written as a table."""

import csv
import io
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from fashion_vgg import atomic

log = logging.getLogger(__name__)


class History(Checkpoint):
    """Writes one row an epoch to ``metrics.csv`` and, where there is no progress bar, to the log.

    Lightning's own CSV logger deletes the table of a run that is resumed, and sorts the epoch in among the figures.
    It is a `Checkpoint`, though it saves none, because Lightning calls those last, when the epoch's figures are all
    there. Its rows are part of every checkpoint, so that a resumed run's table, picture and summary are whole.

    ``rows`` holds a dictionary an epoch: ``epoch`` from 1, then the logged figures by name. ``seconds`` is how long the
    training has taken, the parts before a resume counted in.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder, "metrics.csv")
        self.rows: list[dict[str, float]] = []
        self._scored = False
        self._seconds_before = 0.0
        self._start: float | None = None
        self._resumed = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning logs an epoch's figures after its checkpoint: the last row may have been lost between the two.
        if self._resumed and self.rows:
            figures = {name: value for name, value in self.rows[-1].items() if name != "epoch"}
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=int(self.rows[-1]["epoch"]))

    @property
    def seconds(self) -> float:
        return self._seconds_before + (time.perf_counter() - self._start if self._start else 0.0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._seconds_before, self._start = self.seconds, None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._scored = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # In all processes: asking for the figures makes them add theirs up.
        self.rows.append({"epoch": trainer.current_epoch + 1, **self._figures(trainer)})
        if not trainer.is_global_zero:
            return
        atomic.write(self.path, self._table())
        if trainer.progress_bar_callback is None:
            log.info(_line(self.rows[-1], trainer.max_epochs))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = True
        self.rows = list(state_dict["rows"])
        self._seconds_before = state_dict.get("seconds", 0.0)  # not there in checkpoints of early versions

    def _figures(self, trainer: L.Trainer) -> dict[str, float]:
        # Lightning keeps the last evaluation's figures through the epochs that have none.
        stale = ("step",) if self._scored else ("step", "val/", "test/")
        self._scored = False
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith(stale)}
        return dict(sorted(figures.items(), key=lambda item: _column(item[0])))

    def _table(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return table.getvalue()


def _column(name: str) -> tuple[int, str]:
    """Training before evaluation, loss before accuracy, then the others."""
    order = [f"{stage}/{figure}" for stage in ("train", "val", "test") for figure in ("loss", "acc")]
    return (order.index(name), "") if name in order else (len(order), name)


def _line(row: dict[str, float], epochs: int | None) -> str:
    figures = (f"{name} {row[name]:.3f}" for name in row if name.endswith(("/loss", "/acc")))
    speed = f"  {row['images_per_sec']:,.0f} images/s" if "images_per_sec" in row else ""
    return f"epoch {row['epoch']:>2}/{epochs}  {'  '.join(figures)}{speed}"
