"""Decides when a checkpoint is due, and writes checkpoints from which training resumes bit for bit."""

import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging

from fashion_vgg import atomic
from fashion_vgg.checkpoints import callback_states, checkpoint_io, signals
from fashion_vgg.errors import Stopped

log = logging.getLogger(__name__)


class PeriodicCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` every few minutes, at the end of training, and when a signal stops it.

    Previous checkpoints are kept as ``last-1.ckpt`` and so on, in case the newest is damaged. After a kill, the lost
    steps are repeated with the same images and random numbers, since both depend on the step alone.

    Lightning resumes differently from checkpoints of different hooks, and skips or repeats the end of an epoch from
    some. Therefore the saved progress is always one of two kinds: a number of batches into an epoch, with its
    evaluation still to run, or between two epochs.

    Args:
        folder: for the checkpoints.
        every_minutes: time between checkpoints, the most that a kill can cost; 0 saves after every step.
        keep: number of checkpoints kept during training.

    Attributes:
        run: what each checkpoint says of its run (see `identity.of`).
    """

    def __init__(self, folder: str, every_minutes: float, keep: int) -> None:
        self.folder = Path(folder)
        self.seconds = 60 * every_minutes
        self.paths = [self.folder / f"last{f'-{age}' if age else ''}.ckpt" for age in range(keep)]
        self.run: dict[str, Any] = {}
        self._evaluating = self._stopped_early = self._within_epoch = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.sweep(self.folder)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._stopped_early = callback_states.stays_stopped(trainer, checkpoint["callbacks"])
        callback_states.follow_folder(trainer, checkpoint["callbacks"])
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        self._within_epoch = epochs["ready"] > epochs["processed"]
        if trainer.strategy.root_device.type == "cpu":
            _compare_threads(checkpoint.get("threads", torch.get_num_threads()))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # If the time is over, `Timer` has stopped the training; within an epoch, it does so after another step.
        trainer.should_stop = self._stopped_early or (trainer.should_stop and not self._within_epoch)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_at = time.monotonic()
        self._saved_progress: tuple[int, int] | None = None
        signals.defer()
        callback_states.schedule_accumulation(trainer)
        if trainer.ckpt_path and trainer.is_global_zero and not self.paths[0].exists():
            # Resumed from another folder: after a kill before the first checkpoint, this copy is resumed.
            copy = {**checkpoint_io.load(Path(trainer.ckpt_path)), "run": self.run}
            checkpoint_io.CheckedCheckpointIO().save_checkpoint(copy, self.paths[0])

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        # Where an evaluation or the end of the epoch follows, their hooks save.
        evaluation_follows = trainer.is_last_batch or _batches(trainer) % (trainer.val_check_batch or math.inf) == 0
        if not evaluation_follows and self._is_resumable(trainer):
            self._save_if_due(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluating = trainer.state.fn == "fit" and not trainer.sanity_checking
        if self._evaluating and self._is_resumable(trainer):
            self._save_if_due(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        # During an evaluation, averaged weights replace the trained ones: those are saved after it.
        averaging = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        # Several processes may evaluate different numbers of batches, so they cannot agree after each batch.
        signum = signals.received() if trainer.world_size == 1 else 0
        if self._evaluating and signum and not averaging and self._is_resumable(trainer):
            self._stop(trainer, signum)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluating = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        if last_epoch or trainer.should_stop or trainer.global_step == trainer.max_steps:
            self._save(trainer)
        self._save_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signals.undefer()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Stopped):
            signals.undefer()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"run": self.run, "threads": torch.get_num_threads()}
        progress = checkpoint["loops"]["fit_loop"]
        epochs, batches = progress["epoch_progress"], progress["epoch_loop.batch_progress"]
        started, finished = epochs["total"]["ready"], epochs["total"]["processed"]
        within_epoch = started > finished
        evaluating = within_epoch and self._evaluating
        _set_progress(epochs, "total", started, finished)
        _set_progress(epochs, "current", started, finished)
        _set_progress(batches, "total", batches["total"]["ready"])
        _set_progress(batches, "current", batches["current"]["ready"] if within_epoch else 0)
        batches["is_last_batch"] = within_epoch and trainer.is_last_batch
        # Lightning resumes an evaluation that has started.
        evaluation = progress["epoch_loop.val_loop.batch_progress"]
        _set_progress(evaluation, "total", int(evaluating), 0)
        _set_progress(evaluation, "current", int(evaluating), 0)
        evaluation["is_last_batch"] = False
        # Lightning increments this after the batch's hooks, and again after an evaluation that it resumes.
        progress["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"] - evaluating

    def prune(self) -> None:
        """Delete all but the newest checkpoint of a finished training."""
        for path in self.paths[1:]:
            path.unlink(missing_ok=True)

    def _is_resumable(self, trainer: L.Trainer) -> bool:
        """Not between two batches of one optimizer step; nor where Lightning would end the epoch before its evaluation.

        It would so at max_steps, and after `Timer` has stopped the training within an epoch.
        """
        stepped = _batches(trainer) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        stopping = trainer.should_stop and trainer.fit_loop._can_stop_early
        return stepped and trainer.global_step != trainer.max_steps and not stopping

    def _save_if_due(self, trainer: L.Trainer) -> None:
        late = trainer.is_global_zero and time.monotonic() - self._saved_at >= self.seconds
        signum = signals.received()
        if trainer.world_size > 1:
            # All processes of a training save, or none: the first one's clock decides, or any one's signal.
            decision = torch.tensor([late, signum], device=trainer.strategy.root_device)
            late, signum = trainer.strategy.reduce(decision, reduce_op="max").tolist()
        if signum:
            self._stop(trainer, signum)
        if late:
            self._save(trainer)

    def _stop(self, trainer: L.Trainer, signum: int) -> None:
        self._save(trainer)
        signals.stop(signum, f"Stopped after step {trainer.global_step:,}.")

    def _save(self, trainer: L.Trainer) -> None:
        epochs: Any = trainer.fit_loop.epoch_progress.current
        progress = (trainer.global_step, epochs.processed)
        if progress == self._saved_progress:
            return
        if trainer.is_global_zero:
            self._rotate()
        trainer.save_checkpoint(self.paths[0])
        self._saved_at, self._saved_progress = time.monotonic(), progress

    def _rotate(self) -> None:
        """Rename each checkpoint to the next older name; the newest keeps its name, too, until it is replaced."""
        newest = [path for path in self.paths[:2] if path.exists()]
        if len(newest) == 2 and newest[0].samefile(newest[1]):
            return  # rotated before a save that failed
        for newer, older in reversed(list(zip(self.paths[1:], self.paths[2:], strict=False))):
            if newer.exists():
                newer.replace(older)
        if len(self.paths) > 1 and self.paths[0].exists():
            second = self.paths[1]
            second.unlink(missing_ok=True)
            try:
                os.link(self.paths[0], second)
            except OSError:  # a file system without hard links
                self.paths[0].replace(second)


@rank_zero_only
def _compare_threads(recorded: int) -> None:
    if recorded != torch.get_num_threads():
        log.warning(
            "The checkpoint was written with %s threads, and %s are used: the uninterrupted training would differ by "
            "rounding errors. OMP_NUM_THREADS=%s sets their number.",
            *(recorded, torch.get_num_threads(), recorded),
        )


def _batches(trainer: L.Trainer) -> int:
    """The batches of the epoch so far."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def _set_progress(progress: dict[str, Any], which: str, started: int, finished: int | None = None) -> None:
    """Set one of Lightning's progress trackers."""
    finished = started if finished is None else finished
    progress[which] |= {"ready": started, "started": started, "processed": finished, "completed": finished}
