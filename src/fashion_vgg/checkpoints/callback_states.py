"""What a resumed training takes over from the states of Lightning's callbacks, where Lightning itself would not."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint


def stays_stopped(trainer: L.Trainer, states: dict[str, Any]) -> bool:
    """Whether the training was stopped early by a callback that it still has, with the same patience.

    The configured patience applies; Lightning would restore that of the checkpoint.
    """
    stays = False
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = states.get(callback.state_key, {})
        if not isinstance(callback, EarlyStopping):
            continue
        if state.get("patience") == callback.patience:
            stays = stays or bool(state.get("stopping_reason_message"))
        else:
            state |= {"patience": callback.patience, "stopping_reason": 0, "stopping_reason_message": None}
    return stays


def follow_folder(trainer: L.Trainer, states: dict[str, Any]) -> None:
    """Keep the best checkpoint of a run whose folder was moved; Lightning would forget it.

    A training that is resumed from a file in another folder has none there: its best one is found anew.
    """
    for callback in trainer.checkpoint_callbacks:
        state = states.get(callback.state_key, {})
        if isinstance(callback, ModelCheckpoint) and state.get("dirpath") and callback.dirpath:
            moved = _with_folder(state, state["dirpath"], str(callback.dirpath))
            if Path(moved["best_model_path"]).is_file():
                states[callback.state_key] = moved


def schedule_accumulation(trainer: L.Trainer) -> None:
    """Accumulate the gradients of the current epoch's number of batches; Lightning sets it only between epochs."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)


def _with_folder(state: Any, old: str, new: str) -> Any:
    """A callback's state in which the paths in one folder are replaced by those in another."""
    if isinstance(state, dict):
        return {_with_folder(key, old, new): _with_folder(value, old, new) for key, value in state.items()}
    if isinstance(state, str) and Path(state).is_relative_to(old):
        return str(Path(new, Path(state).relative_to(old)))
    return state
