"""What TensorBoard shows of a run besides its curves: its hyperparameters, and which curves share a chart."""

from collections.abc import Iterator, Mapping, Sequence

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fashion_vgg.config.overrides import key_of, safe_overrides, shown

KEYS = (
    *("seed", "image_size", "batch_size", "optimizer.lr", "data.val_size"),
    *("trainer.max_epochs", "trainer.precision"),
)
"""The settings that every run shows."""
GROUPS = ("model", "optimizer", "scheduler", "experiment")
"""The choices of configs that every run shows."""
_PLACES = ("output_dir", "data.root", "checkpoint.folder")

LAYOUT = {
    "train, val and test": {
        "loss": ["Multiline", ["train/loss", "val/loss", "test/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc", "test/acc"]],
    }
}


def writers(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """Those of the TensorBoard loggers."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            # By now it has told TensorBoard to drop what comes again in a resumed run. It would do so once more when it
            # is opened again, after the training.
            logger.experiment.purge_step = None
            yield logger.experiment


def hyperparameters(
    cfg: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str]
) -> dict[str, bool | float | str]:
    """The columns of the HParams tab: the same for all jobs of a sweep, whose overrides have the same keys.

    Args:
        cfg: the whole configuration.
        choices: the config that was chosen of each group, as Hydra keeps them.
        overrides: the command line's.
    """
    own = [key for word in safe_overrides(list(overrides)) if (key := key_of(word)) not in _PLACES]
    chosen = {group: choices.get(group) for group in GROUPS} | {key: choices[key] for key in own if key in choices}
    values = {key: OmegaConf.select(cfg, key) for key in (*KEYS, *own) if key not in choices}
    every = (chosen | values).items()
    return {key: value if isinstance(value, bool | int | float) else shown(value) for key, value in every}


def begin(trainer: L.Trainer, shown: Mapping[str, bool | float | str]) -> None:
    """Write the hyperparameters and the layout of the charts.

    The third summary, of an experiment, is left out: from the runs' own, TensorBoard makes a table of all of them, with
    what differs in front and the curves' ends as figures. Lightning writes it with figures of zero or less, as points
    of the curves.
    """
    _, start, _ = hparams(dict(shown), {})  # type: ignore[no-untyped-call]
    for writer in writers(trainer):
        writer._get_file_writer().add_summary(start)  # type: ignore[no-untyped-call]
        writer.add_custom_scalars(LAYOUT)


class Ending(L.Callback):
    """Writes that a training succeeded: without, the HParams tab leaves that open."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Lightning when nothing went wrong, and before it closes its loggers' files."""
        _, _, end = hparams({}, {})  # type: ignore[no-untyped-call]
        for writer in writers(trainer) if trainer.is_global_zero else ():
            writer._get_file_writer().add_summary(end)  # type: ignore[no-untyped-call]


def add_best(trainer: L.Trainer, best: Mapping[str, float], epochs: int) -> None:
    """Write the figures of the checkpoint that was best on the validation split, which are no curves.

    They stand at the last epoch, which a resumed run drops and writes again.
    """
    for writer in writers(trainer):
        for name, value in best.items():
            if name.startswith(("val/", "test/")):
                writer.add_scalar(f"best/{name}", value, epochs)
        writer.flush()
