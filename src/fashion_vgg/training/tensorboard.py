"""What TensorBoard shows of a run besides its curves: hyperparameters, and which curves share a chart."""

from collections.abc import Iterator, Mapping, Sequence

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fashion_vgg.config.names import short_names
from fashion_vgg.config.overrides import key_of, safe_overrides, shown

KEYS = ("seed", "image_size", "batch_size", "optimizer.lr", "data.val_size", "trainer.max_epochs", "trainer.precision")
"""The settings that every run shows."""
GROUPS = ("model", "optimizer", "scheduler", "experiment")
"""The config groups whose choice every run shows."""
_PATHS = ("output_dir", "data.root", "checkpoint.folder", "name", "tags")

LAYOUT = {
    "train, val and test": {
        title: ["Multiline", [f"train/{metric}", f"val/{metric}", f"test/{metric}"]]
        for title, metric in (("loss", "loss"), ("accuracy", "acc"))
    }
}


def writers(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """The writers of the TensorBoard loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
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
    own = [key for word in safe_overrides(list(overrides)) if (key := key_of(word)) not in _PATHS]
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
    """Write the metrics of the best checkpoint at the last epoch, which a resumed run drops and writes again."""
    for writer in writers(trainer):
        for name, value in best.items():
            if name.startswith(("val/", "test/")):
                writer.add_scalar(f"best/{name}", value, epochs)
        writer.flush()
