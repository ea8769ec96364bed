"""What a resumed training takes over from the states of Lightning's callbacks, where Lightning itself would not."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from fashion_vgg import atomic


def stoppers(trainer: L.Trainer) -> list[EarlyStopping]:
    """The callbacks that may stop a training early."""
    return [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]


def stays_stopped(trainer: L.Trainer, checkpoint: dict[str, Any]) -> bool:
    """Whether a training was stopped early, by a callback that it still has. The configured patience applies."""
    states = [(stopper, checkpoint["callbacks"].get(stopper.state_key, {})) for stopper in stoppers(trainer)]
    unchanged = any(state.get("patience") == stopper.patience for stopper, state in states)
    for stopper, state in states:
        state["patience"] = stopper.patience  # Lightning would restore that of the checkpoint
    return unchanged and bool(checkpoint.get("stopped_early"))


def keep_best(trainer: L.Trainer, states: dict[str, Any]) -> None:
    """Find the best checkpoint in the folder of this run; Lightning forgets it if the folder has changed."""
    for callback in trainer.checkpoint_callbacks:
        state = states.get(callback.state_key, {})
        if isinstance(callback, ModelCheckpoint) and state.get("dirpath") and callback.dirpath:
            moved = _with_folder(state, state["dirpath"], str(callback.dirpath))
            best, earlier = Path(moved["best_model_path"]), Path(state["best_model_path"])
            if not best.is_file() and not earlier.is_file():
                continue
            states[callback.state_key] = moved
            if trainer.is_global_zero and not best.is_file():  # resumed from a file, in another folder
                with atomic.writing(best) as file:
                    file.write(earlier.read_bytes())


def _with_folder(state: Any, old: str, new: str) -> Any:
    """A callback's state in which the paths in one folder are replaced by those in another."""
    if isinstance(state, dict):
        return {_with_folder(key, old, new): _with_folder(value, old, new) for key, value in state.items()}
    if isinstance(state, str) and Path(state).is_relative_to(old):
        return str(Path(new, Path(state).relative_to(old)))
    return state
