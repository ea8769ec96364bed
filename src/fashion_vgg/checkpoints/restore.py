"""Checks that a checkpoint is one of this training: its parts before it is restored, and what Lightning restored."""

import math
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim import Optimizer

from fashion_vgg.errors import CheckpointError, UserError

_PARTS = {
    **{"global_step": int, "epoch": int, "pytorch-lightning_version": str},
    **{"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list},
}
_OF_PARAMETERS_SHAPE = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
"""Names in the state of torch's optimizers and of Muon."""


def check(content: Mapping[str, Any], path: Path) -> None:
    """Raise UserError if the content of a checkpoint is not that of a training's."""
    if not content.get("loops") or "global_step" not in content:
        raise UserError(f"{path} holds only weights: there is no training to resume. init_weights= loads weights.")
    wrong = [name for name, kind in _PARTS.items() if type(content.get(name)) is not kind]
    wrong += ["optimizer_states"] * (not content.get("optimizer_states"))
    wrong += ["loops"] * (not _has_progress(content["loops"]))
    wrong += ["run"] * (not _names_run(content.get("run")))
    if wrong:
        raise UserError(f"{path} is not a training's checkpoint: its {wrong[0]} is missing or of another type.")


def _names_run(run: Any) -> bool:
    """Whether an entry is one of `identity.of`, or missing."""
    return run is None or (isinstance(run, dict) and {"id", "folder"} <= {*run} and type(run.get("settings")) is dict)


def _has_progress(loops: dict[str, Any]) -> bool:
    try:
        return _holds_counts(loops) and isinstance(loops["fit_loop"]["epoch_progress"]["current"]["processed"], int)
    except (KeyError, TypeError):
        return False


def _holds_counts(node: Any) -> bool:
    """Whether nested dictionaries hold nothing but counts and truth values, as the progress of loops does."""
    if isinstance(node, dict):
        return all(map(_holds_counts, node.values()))
    return isinstance(node, int) and node >= 0


@contextmanager
def restoring(path: Path | None) -> Iterator[None]:
    """Raise CheckpointError if Lightning fails to restore a checkpoint; any other error of the training passes."""
    try:
        yield
    except MisconfigurationException:  # says which setting of the Trainer does not fit
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        connector = [frame.name for frame in frames if frame.filename.endswith("checkpoint_connector.py")]
        if not any("restore" in name or name == "resume_start" for name in connector):
            raise
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"{path} is not a checkpoint of this training: {reason}") from error


class CheckRestored(L.Callback):
    """Checks what Lightning and torch restore without a look: which parts there are, and the optimizer's state."""

    def __init__(self) -> None:
        self._schedules: int | None = None

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if _keys(checkpoint["loops"]["fit_loop"]) != _keys(trainer.fit_loop.state_dict()):
            raise UserError("its progress has other parts.")
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        rows = checkpoint["callbacks"].get("History", {}).get("rows")
        if rows is None or len(rows) != epochs:
            raise UserError(f"it does not have the metrics of {epochs:,} epochs.")
        self._schedules = len(checkpoint["lr_schedulers"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._schedules is None:
            return
        problem = next(filter(None, map(_problem, trainer.optimizers)), None)
        if self._schedules != len(trainer.lr_scheduler_configs):
            problem = f"it has {self._schedules} learning rate schedules"
        if problem:
            raise CheckpointError(f"{trainer.ckpt_path} is not a checkpoint of this training: {problem}.")


def _keys(node: Any) -> Any:
    return {key: _keys(value) for key, value in node.items()} if isinstance(node, dict) else None


def _problem(optimizer: Optimizer) -> str | None:
    """What is wrong with the state of an optimizer."""
    # Restoring adds "differentiable" to the defaults of any optimizer, which may not have it in its groups.
    names = [name for name in optimizer.defaults if name != "differentiable"]
    for group in optimizer.param_groups:
        for name in names:
            if name not in group or not _is_finite(group[name]):
                return f"{name} of its optimizer is missing or no finite number"
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not _is_finite(value):
                return f"{name} of its optimizer is no finite number"
            if name in _OF_PARAMETERS_SHAPE and value is not None and getattr(value, "shape", None) != parameter.shape:
                return f"{name} of its optimizer has not the shape of its parameter, {list(parameter.shape)}"
    return None


def _is_finite(value: Any) -> bool:
    """Whether a value is finite, or of a type that has no such values; a text is neither."""
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    return math.isfinite(value) if isinstance(value, float) else not isinstance(value, str)
