"""What TensorBoard shows of a run besides its curves: hyperparameters, and which curves share a chart."""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch import loggers
from omegaconf import DictConfig, OmegaConf
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fashion_vgg.config.names import PLACES, short_names
from fashion_vgg.config.overrides import key_of, safe_overrides, shown
from fashion_vgg.training import event_files
from fashion_vgg.training.metrics import QUANTITIES

KEYS = ("seed", "image_size", "batch_size", "optimizer.lr", "data.val_size", "trainer.max_epochs", "trainer.precision")
"""The settings that every run shows."""
GROUPS = ("model", "optimizer", "scheduler", "experiment")
"""The config groups whose choice every run shows."""

LAYOUT = {
    "train, val and test": {
        quantity: ["Multiline", [f"{quantity}/{stage}" for stage in ("train", "val", "test")]]
        for quantity in QUANTITIES.values()
    }
}


def tag(metric: str) -> str:
    """TensorBoard's name of a metric.

    TensorBoard sorts the groups of charts by name and opens the first two: ``accuracy`` and ``loss``, each with train,
    val and test. The others come after them: ``plots``, and ``training`` with speed and learning rate.
    """
    stage, _, quantity = metric.partition("/")
    if metric in ("lr", "images_per_sec"):
        return f"training/{metric}"
    return f"{QUANTITIES[quantity]}/{stage}" if quantity in QUANTITIES else metric


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Lightning's logger, with names of the charts that TensorBoard opens in a useful order (see `tag`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "purge_step" in kwargs:  # of a run that is resumed
            event_files.keep_before(Path(self.log_dir), kwargs["purge_step"])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({tag(name): value for name, value in metrics.items()}, step)

    def log_graph(self, model: Any, input_array: Tensor | None = None) -> None:
        """The graph of the network for an image, if ``log_graph`` is set."""
        if not self._log_graph or not model.trainer.is_global_zero or model.trainer.state.fn != "fit":
            return
        data, was_training = model.trainer.datamodule, model.net.training
        images = data.preprocess(data.test_set[:1][0]).to(model.device, model.dtype)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.trace", FutureWarning)  # in torch's own add_graph
            self.experiment.add_graph(model.net.eval(), images)
        model.net.train(was_training)


def leave_errors_to_the_main_thread() -> None:
    """Print no traceback of TensorBoard's thread: the main thread raises its error, such as of a full disk."""

    def hook(args: Any) -> None:
        if not isinstance(args.thread, _AsyncWriterThread):
            threading.__excepthook__(args)

    threading.excepthook = hook


def writers(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """The writers of the TensorBoard loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, loggers.TensorBoardLogger):
            # TensorBoard has dropped by now what a resumed run repeats; reopened after the training, the writer would
            # make it drop that again.
            logger.experiment.purge_step = None
            yield logger.experiment


def hyperparameters(
    cfg: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str]
) -> dict[str, bool | float | str]:
    """The columns of the HParams tab, the same for all jobs of a sweep, since their overrides have the same keys.

    ``choices`` is Hydra's record of the option of each config group.
    """
    own = [key for word in safe_overrides(list(overrides)) if (key := key_of(word)) not in PLACES]
    chosen = {group: choices.get(group) for group in GROUPS} | {key: choices[key] for key in own if key in choices}
    values = {key: OmegaConf.select(cfg, key) for key in (*KEYS, *own) if key not in choices}
    names = short_names({**chosen, **values})
    columns = ((names[key], value) for key, value in (chosen | values).items())
    return {key: value if isinstance(value, bool | int | float) else shown(value) for key, value in columns}


def begin(trainer: L.Trainer, columns: Mapping[str, bool | float | str]) -> None:
    """Write the hyperparameters and the layout of the charts.

    The summary of an experiment is left out: without it, TensorBoard makes one table of all runs, in which the columns
    that differ come first and the metrics are the last values of the curves. Lightning would write it with placeholder
    metrics, as points of the curves.
    """
    _, start, _ = hparams(dict(columns), {})  # type: ignore[no-untyped-call]
    for writer in writers(trainer):
        writer._get_file_writer().add_summary(start)  # type: ignore[no-untyped-call]
        writer.add_custom_scalars(LAYOUT)


class MarkSuccess(L.Callback):
    """Writes that the training succeeded; otherwise the HParams tab shows its status as unknown."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _, _, end = hparams({}, {})  # type: ignore[no-untyped-call]
        for writer in writers(trainer) if trainer.is_global_zero else ():
            writer._get_file_writer().add_summary(end)  # type: ignore[no-untyped-call]


def add_best(trainer: L.Trainer, best: Mapping[str, float], epochs: int) -> None:
    """Write the test of the best checkpoint, and its validation accuracy, for the HParams tab.

    Two points each, since a chart of one point shows nothing. A resumed run drops the last one and writes both again,
    further on.
    """
    values = {tag(name): value for name, value in best.items() if name.startswith("test/")}
    if "val/acc" in best:
        values["accuracy/val, best epoch"] = best["val/acc"]
    for writer in writers(trainer):
        for name, value in values.items():
            for epoch in (epochs - 1, epochs):
                writer.add_scalar(name, value, epoch)
        writer.flush()
