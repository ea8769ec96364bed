"""The metrics of every epoch: in ``metrics.csv``, in the log, and in every checkpoint."""

import csv
import io
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from fashion_vgg import atomic
from fashion_vgg.checkpoints.run_folder import METRICS

log = logging.getLogger(__name__)


class History(Checkpoint):
    """Writes a row per epoch to ``metrics.csv`` and to the log.

    Lightning's `CSVLogger` deletes the file of a run that is resumed. The rows are part of every checkpoint, so that a
    resumed run has all of them. It derives from `Checkpoint` because Lightning calls only those callbacks after the
    module's ``on_train_epoch_end``, which logs the metrics of the epoch.

    Attributes:
        rows: a dictionary per epoch: ``epoch`` from 1, then the logged metrics by name.
        seconds: duration of the training, including the parts before a resume.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder, METRICS)
        self.rows: list[dict[str, float]] = []
        self._evaluated = False
        self._seconds_before = 0.0
        self._start: float | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A kill loses what the loggers had not written yet when the checkpoint was saved.
        if self.rows:  # of a checkpoint
            metrics = {name: value for name, value in self.rows[-1].items() if name != "epoch"}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=int(self.rows[-1]["epoch"]))

    @property
    def seconds(self) -> float:
        return self._seconds_before + (time.perf_counter() - self._start if self._start else 0.0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._seconds_before, self._start = self.seconds, None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # In all processes, since reading the metrics reduces them over the processes.
        self.rows.append({"epoch": trainer.current_epoch + 1, **self._metrics(trainer)})
        if not trainer.is_global_zero:
            return
        atomic.write(self.path, self._csv())
        log.info(_line(self.rows[-1], trainer.max_epochs))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds, "evaluated": self._evaluated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rows = [{name: float(value) for name, value in row.items()} for row in state_dict["rows"]]
        self.rows = [row | {"epoch": int(row["epoch"])} for row in rows]
        self._seconds_before = float(state_dict["seconds"])
        self._evaluated = bool(state_dict["evaluated"])

    def _metrics(self, trainer: L.Trainer) -> dict[str, float]:
        # Lightning keeps the values of the last evaluation in epochs that have none.
        stale = () if self._evaluated else ("val/", "test/")
        self._evaluated = False
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith(stale)}
        return dict(sorted(metrics.items(), key=lambda item: _column(item[0])))

    def _csv(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return table.getvalue()


def _column(name: str) -> tuple[int, str]:
    """Sort key: train, val, test, each loss before accuracy; then the other metrics by name."""
    order = [f"{stage}/{metric}" for stage in ("train", "val", "test") for metric in ("loss", "acc")]
    return (order.index(name), "") if name in order else (len(order), name)


def _line(row: dict[str, float], epochs: int | None) -> str:
    metrics = (f"{name} {row[name]:.3f}" for name in row if name.endswith(("/loss", "/acc")))
    speed = f"  {row['images_per_sec']:,.0f} images/s" if "images_per_sec" in row else ""
    return f"epoch {row['epoch']:>2}/{epochs}  {'  '.join(metrics)}{speed}"
