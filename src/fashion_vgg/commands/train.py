"""``fashion-vgg train``: compose, train, and leave a folder that tells the whole story."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.checkpoints import resume, run_folder
from fashion_vgg.config import launch
from fashion_vgg.config.app import command, in_sweep
from fashion_vgg.errors import UserError
from fashion_vgg.sweeps import multirun
from fashion_vgg.training.allocator import keep_freed_memory
from fashion_vgg.training.build import build_classifier, build_trainer, check_components, configure_lightning_logging

# torch and Lightning are imported late, where they are needed, for two reasons: help and mistakes come without the
# wait, and Lightning sends its messages to the job's log only if Hydra has set that up by then.
if TYPE_CHECKING:
    import lightning as L

    from fashion_vgg.data.datamodule import FashionMNISTDataModule

log = logging.getLogger(__name__)


def prepare(argv: Sequence[str]) -> list[str]:
    """The arguments with those of the run or the sweep that they go on with, and those of a further process."""
    return launch.arguments(multirun.arguments(resume.arguments(argv, "resume", run_folder.outputs_folder() / "train")))


@command("train", prepare=prepare, sweep=multirun.run_job, around=multirun.told)
def main(cfg: DictConfig) -> None:
    check_components(cfg)
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    keep_freed_memory()
    configure_lightning_logging()
    with run_folder.lock(Path(cfg.output_dir)) if getattr(rank_zero_only, "rank", 0) == 0 else nullcontext():
        train(cfg)


def train(cfg: DictConfig) -> None:
    """Train in the run's folder, which no other process does."""
    import lightning as L

    from fashion_vgg.checkpoints import init_weights
    from fashion_vgg.training import memory_errors, tensorboard
    from fashion_vgg.training.callbacks import History

    cfg.checkpoint.folder = str(Path(cfg.checkpoint.folder).expanduser().absolute())  # for who resumes from elsewhere
    checkpoint, epochs_done = where_to_begin(cfg)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    history, checkpoints = History(cfg.output_dir), instantiate(cfg.checkpoint)
    trainer = build_trainer(
        cfg, history, *multirun.pruners(cfg), tensorboard.Ending(), checkpoints, epochs_done=epochs_done
    )
    classifier, datamodule = build_classifier(cfg), instantiate(cfg.data)
    check_processes(trainer, datamodule)
    if checkpoint is None and cfg.model.get("weights"):
        init_weights.begin_from(Path(cfg.model.weights).expanduser(), classifier.get_submodule("net"))
    if trainer.is_global_zero:
        begin_record(cfg, trainer)
    with way_on_told(cfg):
        with memory_errors.told(trainer, classifier, datamodule):
            trainer.fit(classifier, datamodule, ckpt_path=checkpoint)
            rows, seconds = list(history.rows), history.seconds  # a checkpoint that is loaded to test it brings its own
            test = test_best(trainer, datamodule) if cfg.data.val_size else {}
        if trainer.is_global_zero:
            report(cfg, trainer, rows, test, seconds)
            checkpoints.prune()


def where_to_begin(cfg: DictConfig) -> tuple[Path | None, int | None]:
    """The checkpoint to go on from, if there is one, and the number of epochs that were done by then.

    Raises:
        UserError: the folder is another run's, or there is nothing to go on from with these settings.
    """
    folder = Path(cfg.checkpoint.folder)
    if not cfg.resume:
        if resume.checkpoints(folder):
            raise UserError(f"{folder} has another run's checkpoints: go on with it by resume=, or use a new folder.")
        return None, None
    if run := resume.run_folder(Path(cfg.resume)):
        resume.check_unchanged(cfg, run, HydraConfig.get().overrides.task)
    newest = resume.newest_whole(resume.checkpoints(Path(cfg.resume) if Path(cfg.resume).is_file() else folder))
    if newest is None:
        before = resume.checkpoint_folder(Path(cfg.output_dir))
        if before.absolute() != folder.absolute() and resume.checkpoints(before):
            raise UserError(f"This run's checkpoints are in another folder: add checkpoint.folder={before}.")
        log.info("%s has no checkpoint yet: the training begins anew.", folder)
        return None, 0
    path, content = newest
    progress = content.get("loops", {}).get("fit_loop")
    if not progress or "global_step" not in content:
        raise UserError(f"{path} holds weights alone: there is no training in it to go on with.")
    log.info("Goes on from %s, after step %s", path, f"{content['global_step']:,}")
    return path, progress["epoch_progress"]["current"]["processed"]


def begin_record(cfg: DictConfig, trainer: "L.Trainer") -> None:
    """Write down what is about to be trained."""
    from fashion_vgg.training import tensorboard

    Path(cfg.output_dir, run_folder.SUMMARY).unlink(missing_ok=True)  # of a finished run that goes on: it no longer is
    resume.record(cfg, HydraConfig.get().overrides.task, Path(cfg.output_dir))
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    for logger in trainer.loggers:
        logger.log_hyperparams(settings)
    hydra = HydraConfig.get()
    tensorboard.begin(trainer, tensorboard.hyperparameters(cfg, hydra.runtime.choices, hydra.overrides.task))
    log.info("Results go to %s", cfg.output_dir)


@contextmanager
def way_on_told(cfg: DictConfig) -> Iterator[None]:
    """Whatever ends the training, its message says from where, and with which command, it can go on."""
    try:
        yield
    except BaseException as error:
        folder, kept = Path(cfg.output_dir), resume.checkpoints(Path(cfg.checkpoint.folder))
        kept_at = f"The last checkpoint is {kept[0]}. " if kept and isinstance(error, Exception) else ""
        if kept or not isinstance(error, Exception):
            go_on = multirun.command(Path(HydraConfig.get().sweep.dir)) if in_sweep() else resume.command(folder)
            error.add_note(f"{kept_at}Go on with: {go_on}")
        raise


def check_processes(trainer: "L.Trainer", datamodule: "FashionMNISTDataModule") -> None:
    """Tell what the processes cannot do before the further ones are started.

    Raises:
        UserError: they cannot share the batch, or this is a sweep: Lightning would start the whole of it in each.
    """
    datamodule.share_of_batch(trainer.world_size)
    if in_sweep() and trainer.world_size > 1:
        raise UserError("A sweep runs each training in one process: start trainings of several one by one, without -m.")


def test_best(trainer: "L.Trainer", datamodule: "L.LightningDataModule") -> dict[str, float]:
    """Metrics on the test set of the checkpoint that was best on the validation split, or else of the last step."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    best = [callback.best_model_path for callback in callbacks if callback.monitor and callback.best_model_path]
    # With the module, or Lightning looks for a checkpoint by itself.
    module = trainer.lightning_module
    trainer.test(module, datamodule=datamodule, ckpt_path=best[0] if best else None, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}


def report(
    cfg: DictConfig,
    trainer: "L.Trainer",
    rows: list[dict[str, float]],
    test: dict[str, float],
    wall_seconds: float,
) -> None:
    """Print the seed's lines and write ``summary.json``, the last thing a run does."""
    from fashion_vgg.runs import summary
    from fashion_vgg.training import tensorboard

    if not rows:
        raise UserError("The training ended before its first epoch did: allow it more time or steps.")
    content: dict[str, Any] = summary.summarize(
        rows,
        test,
        wall_seconds,
        device=trainer.strategy.root_device,
        devices=trainer.world_size,
        overrides=list(HydraConfig.get().overrides.task),
    )
    if test:
        tensorboard.add_best(trainer, content["best"], len(rows))
    summary.write(Path(cfg.output_dir, run_folder.SUMMARY), content)
    log.info("%s", summary.result_lines(content))


if __name__ == "__main__":
    main()
