"""When a training saves what it takes to go on, to the last bit, from where it stopped."""

import math
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, WeightAveraging

from fashion_vgg import atomic
from fashion_vgg.checkpoints import signals
from fashion_vgg.errors import Stopped


class PeriodicCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` every few minutes, at the end, and when a signal asks the training to stop.

    The one before stays as ``last-1.ckpt`` and so on, in case the newest is altered. Steps and epochs that a kill takes
    away are trained again, with the same images and random numbers, since these depend on the step alone.

    Lightning goes on from its own checkpoints in other ways from different hooks, and leaves out or repeats an epoch's
    end from some. So every checkpoint's progress is written as one of two: so many batches into an epoch, with its
    evaluation still to come, or between two epochs.

    Args:
        folder: where they go.
        every_minutes: how much a kill can cost; 0 saves after every step.
        keep: how many are kept while the training runs.
    """

    def __init__(self, folder: str, every_minutes: float, keep: int) -> None:
        self.folder = Path(folder)
        self.seconds = 60 * every_minutes
        self._evaluating = self._ended_early = False
        self.paths = [self.folder / f"last{f'-{age}' if age else ''}.ckpt" for age in range(keep)]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.sweep(self.folder)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._ended_early = checkpoint.get("ended_early", False)
        # Lightning forgets which checkpoint was best if the run's folder was moved.
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key, {})
            if isinstance(callback, ModelCheckpoint) and state.get("dirpath") and callback.dirpath:
                moved = _moved(state, state["dirpath"], str(callback.dirpath))
                if Path(moved["best_model_path"]).is_file():
                    checkpoint["callbacks"][callback.state_key] = moved

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = self._ended_early

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_at = time.monotonic()
        self._saved_at_place: tuple[int, int] | None = None
        signals.put_off()
        if trainer.ckpt_path and trainer.is_global_zero and not self.paths[0].exists():
            # Gone on with from elsewhere: a kill before its own first checkpoint finds that one here.
            atomic.write(self.paths[0], Path(trainer.ckpt_path).read_bytes())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # If an evaluation or the epoch's end is next, its own turn comes then.
        before_evaluation = trainer.is_last_batch or (batch_idx + 1) % (trainer.val_check_batch or math.inf) == 0
        if stepped and not before_evaluation and self._can_go_on_from_here(trainer):
            self._save_if_due(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluating = trainer.state.fn == "fit" and not trainer.sanity_checking
        if self._evaluating and self._can_go_on_from_here(trainer):
            self._save_if_due(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # Averaged weights are in the place of the trained ones during an evaluation: these wait for its end.
        averaging = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        # Several processes may have unequal numbers of batches to evaluate, and cannot agree after each.
        asked = trainer.world_size == 1 and signals.received()
        if self._evaluating and asked and not averaging and self._can_go_on_from_here(trainer):
            self._stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluating = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._is_over(trainer):
            self._save(trainer)
        self._save_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signals.at_once()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, Stopped):
            signals.at_once()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        stoppers = [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]
        checkpoint["ended_early"] = bool(stoppers) and trainer.should_stop
        progress = checkpoint["loops"]["fit_loop"]
        epochs, batches = progress["epoch_progress"], progress["epoch_loop.batch_progress"]
        begun, done = epochs["total"]["ready"], epochs["total"]["processed"]
        within = begun > done
        evaluating = within and self._evaluating
        _count(epochs, "total", begun, done)
        _count(epochs, "current", begun, done)
        _count(batches, "total", batches["total"]["ready"])
        _count(batches, "current", batches["current"]["ready"] if within else 0)
        batches["is_last_batch"] = within and trainer.is_last_batch
        # An evaluation that was begun is one that Lightning takes up again.
        evaluation = progress["epoch_loop.val_loop.batch_progress"]
        _count(evaluation, "total", int(evaluating), 0)
        _count(evaluation, "current", int(evaluating), 0)
        evaluation["is_last_batch"] = False
        # This, Lightning counts after the batch's hooks, and once more after an evaluation that it takes up again.
        progress["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"] - evaluating

    def prune(self) -> None:
        """Leave the newest alone, once the training is finished."""
        for path in self.paths[1:]:
            path.unlink(missing_ok=True)

    def _is_over(self, trainer: L.Trainer) -> bool:
        epochs = trainer.current_epoch + 1 == trainer.max_epochs
        return epochs or trainer.should_stop or trainer.global_step == trainer.max_steps

    def _can_go_on_from_here(self, trainer: L.Trainer) -> bool:
        """Not between two batches of one step; nor after the last of max_steps, where Lightning would end the epoch."""
        progress = trainer.fit_loop.epoch_loop.batch_progress
        stepped = progress.current.ready % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        return stepped and trainer.global_step != trainer.max_steps

    def _save_if_due(self, trainer: L.Trainer) -> None:
        late = trainer.is_global_zero and time.monotonic() - self._saved_at >= self.seconds
        # In a training of several processes all of them save, or none: what the first one's clock and any signal say.
        if trainer.strategy.reduce_boolean_decision(late or bool(signals.received()), all=False):
            if self._asked_to_stop(trainer):
                self._stop(trainer)
            self._save(trainer)

    def _asked_to_stop(self, trainer: L.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(bool(signals.received()), all=False)

    def _stop(self, trainer: L.Trainer) -> None:
        self._save(trainer)
        if not trainer.is_global_zero:
            raise Stopped(0)
        raise Stopped(signals.received(), f"Stopped after step {trainer.global_step:,}.")

    def _save(self, trainer: L.Trainer) -> None:
        epochs: Any = trainer.fit_loop.epoch_progress.current
        place = (trainer.global_step, epochs.processed)
        if place == self._saved_at_place:
            return
        if trainer.is_global_zero:
            self._make_room()
        trainer.save_checkpoint(self.paths[0])
        self._saved_at, self._saved_at_place = time.monotonic(), place

    def _make_room(self) -> None:
        """Give each checkpoint the next older one's name; the newest keeps its own, too, until it is replaced."""
        newest = [path for path in self.paths[:2] if path.exists()]
        if len(newest) == 2 and newest[0].samefile(newest[1]):
            return  # made for a save that then failed
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


def _moved(state: Any, old: str, new: str) -> Any:
    """A state with the paths in one folder as paths in another."""
    if isinstance(state, dict):
        return {_moved(key, old, new): _moved(value, old, new) for key, value in state.items()}
    if isinstance(state, str) and Path(state).is_relative_to(old):
        return str(Path(new, Path(state).relative_to(old)))
    return state


def _count(progress: dict[str, Any], which: str, begun: int, done: int | None = None) -> None:
    """Set a tracker of Lightning's: what has begun, and what of it is done."""
    done = begun if done is None else done
    progress[which] |= {"ready": begun, "started": begun, "processed": done, "completed": done}
