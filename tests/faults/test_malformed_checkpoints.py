"""Checkpoints that hold plain data of the wrong kind: one is refused by its path before it trains or predicts."""

import re
import shutil
import signal
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from tests.conftest import Command, Survived
from tests.faults.conftest import LONG, MakeTraining, Training, in_the_long_set

Change = Callable[[Any], Any]


def weight(content: dict[str, Any]) -> str:
    return next(str(name) for name in content["state_dict"] if name.endswith("weight"))


def put(value: Any, *path: Any) -> Change:
    """A change of the value at a path; ``KeyError`` deletes it, and a function is applied to it."""

    def change(content: dict[str, Any]) -> dict[str, Any]:
        node: Any = content
        *parents, last = [weight(content) if key == "weight" else key for key in path]
        for key in parents:
            node = node[key]
        if value is KeyError:
            del node[last]
        else:
            node[last] = value(node[last]) if callable(value) else value
        return content

    return change


FIT = ("loops", "fit_loop")
OPTIMIZER = ("optimizer_states", 0)
OF_WEIGHTS: dict[str, Change] = {
    "a list": lambda content: [content],
    "a list of weights": put([], "state_dict"),
    "no weights": put({}, "state_dict"),
    "a text as a weight": put("x", "state_dict", "weight"),
    "integer weights": put(torch.Tensor.long, "state_dict", "weight"),
    "sparse weights": put(torch.Tensor.to_sparse, "state_dict", "weight"),
    "weights without data": put(lambda t: t.to("meta"), "state_dict", "weight"),
    "a number as a name": put(torch.ones(1), "state_dict", 3),
}
OF_TRAININGS: dict[str, Change] = {
    "no callbacks": put(KeyError, "callbacks"),
    "no epoch": put(KeyError, "epoch"),
    "no version": put(KeyError, "pytorch-lightning_version"),
    "another version": put("x.y", "pytorch-lightning_version"),
    "a text as a step": put("7", "global_step"),
    "a tensor as a step": put(torch.ones(2), "global_step"),
    "a list of loops": put([1], "loops"),
    "no progress": put({}, *FIT),
    "progress without batches": put(KeyError, *FIT, "epoch_loop.batch_progress"),
    "a text as progress": put("x", *FIT, "epoch_loop.batch_progress", "current", "ready"),
    "a negative count": put(-4, *FIT, "epoch_loop.batch_progress", "total", "ready"),
    "no optimizer": put([], "optimizer_states"),
    "a text as an optimizer": put(["x"], "optimizer_states"),
    "NaN in the optimizer": put(lambda t: t * torch.nan, *OPTIMIZER, "state", 0, "momentum_buffer"),
    "another shape in the optimizer": put(torch.ones(3), *OPTIMIZER, "state", 0, "momentum_buffer"),
    "a text in the optimizer": put("x", *OPTIMIZER, "state", 0, "momentum_buffer"),
    "no parameters": put([], *OPTIMIZER, "param_groups"),
    "a text as a learning rate": put("x", *OPTIMIZER, "param_groups", 0, "lr"),
    "no momentum": put(KeyError, *OPTIMIZER, "param_groups", 0, "momentum"),
    "no schedule": put([], "lr_schedulers"),
    "no metrics": put(KeyError, "callbacks", "History"),
    "many epochs": put(10**12, *FIT, "epoch_progress", "current", "processed"),
    "a number as a callback": put(5, "callbacks", "History"),
    "a text as a metric": put("x", "callbacks", "History", "rows", 0, "train/loss"),
    "a text as a speed": put("x", "callbacks", "Throughput", "images"),
    "no sums": put(None, "train_metrics"),
    "sums of another shape": put(torch.ones(3), "train_metrics", "loss"),
}
SHORT = ("no callbacks", "NaN in the optimizer")


def refused(command: Command, args: list[str], root: Path, path: Path, name: str) -> None:
    done = command(*args, root=root)
    assert done.returncode == 2, (name, done)
    assert re.search(rf"{path}|The weights are another network's", done.stderr), (name, done.stderr)
    assert len(done.stderr.splitlines()) <= 2, (name, done.stderr)


@in_the_long_set
def test_malformed_weights_are_refused(
    undisturbed: Training,
    fashion_vgg: Command,
    small: list[str],
    tmp_path: Path,
    survived: Survived,
) -> None:
    run = shutil.copytree(undisturbed.folder, tmp_path / "run")
    good = torch.load(run / "last.ckpt", weights_only=True)
    for name, change in OF_WEIGHTS.items():
        content = change(deepcopy(good))
        torch.save(content, run / "last.ckpt")
        torch.save(content["state_dict"] if isinstance(content, dict) else content, run / "weights.pth")
        last = run / "last.ckpt"
        lines = [(["predict", f"{run}/result.png", f"weights={last}"], "last.ckpt")]
        lines += [(["test", f"weights={last}"], "last.ckpt"), (["train", f"resume={run}"], "last.ckpt")]
        lines += [(["train", *small, f"init_weights={last}"], "last.ckpt")]
        lines += [(["train", *small, f"init_weights={run}/weights.pth"], "weights.pth")]
        for args, file in lines:
            refused(fashion_vgg, args, tmp_path, run / file, name)
    survived("malformed weights are refused", len(OF_WEIGHTS), len(OF_WEIGHTS))


def test_a_malformed_checkpoint_of_a_training_is_refused(
    training: MakeTraining, small: list[str], fashion_vgg: Command, tmp_path: Path, survived: Survived
) -> None:
    killed = training(tmp_path / "run", small)
    run, metrics = killed.folder, killed.folder / "metrics.csv"
    # In its third epoch, so that the checkpoint has metrics.
    killed.run_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) == 3, signal.SIGKILL)
    good = torch.load(run / "last.ckpt", weights_only=True)
    for older in run.glob("last-*.ckpt"):
        older.unlink()
    names = [*OF_TRAININGS] if LONG else SHORT
    for name in names:
        torch.save(OF_TRAININGS[name](deepcopy(good)), run / "last.ckpt")
        refused(
            fashion_vgg, ["train", f"resume={run}", "trainer.limit_test_batches=1"], tmp_path, run / "last.ckpt", name
        )
    survived("a malformed checkpoint of a training is refused", len(names), len(names))
