"""``fashion-vgg train``: train a network in a new folder, resume a run, or train a sweep with -m."""

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.checkpoints import resume, run_folder, signals
from fashion_vgg.config import launch, validation
from fashion_vgg.config.app import CONF, in_sweep
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.errors import CheckpointError, ProcessError, UserError
from fashion_vgg.sweeps import command_line, job_process, multirun, sweep_folder

# torch and Lightning are imported when training starts: help and mistakes take a second, and Lightning's messages go to
# the job's log only if Hydra sets that up first.
if TYPE_CHECKING:
    import lightning as L

    from fashion_vgg.data import FashionMNISTDataModule
    from fashion_vgg.training import History

log = logging.getLogger(__name__)


def expand(argv: Sequence[str]) -> list[str]:
    """Add the recorded overrides of a run or a sweep that is resumed, and those of a training's other ranks."""
    return launch.expand(command_line.expand(sweep_folder.resumed(resume.expand(argv))))


@multirun.report_failures()
@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
@reported_errors("train")
def main(cfg: DictConfig) -> float | None:
    if job_process.is_current():
        return job_process.main(lambda: multirun.run_job(cfg, train))
    if in_sweep():
        return multirun.run_job(cfg, train)
    with run_folder.removed_if_refused(Path(HydraConfig.get().runtime.output_dir)):
        train(cfg)
    return None


def train(cfg: DictConfig) -> None:
    """Train one network: ``Trainer.fit``, the test of the best checkpoint, and the summary."""
    validation.check(cfg)
    launch.check_tasks(cfg.trainer.devices, cfg.trainer.num_nodes)
    if cfg.trainer.strategy != "auto":
        launch.hide_cpp_warnings()
    gc.disable()  # the imports create a million objects that stay: collecting takes half a second
    import lightning as L

    from fashion_vgg.checkpoints import restore, weights
    from fashion_vgg.sweeps import pruner
    from fashion_vgg.training import History, allocator, build, tensorboard
    from fashion_vgg.training.memory_errors import friendly_errors

    gc.enable()
    resume.keep_precision(cfg, cfg.resume)
    build.check_components(cfg)
    allocator.keep_freed_memory()
    build.configure_lightning_logging()
    launch.name_command("train")
    cfg.checkpoint.folder = str(Path(cfg.checkpoint.folder).expanduser().absolute())  # a resume may start elsewhere
    with _locked_folders(cfg):
        resumed = resume.find_resume_point(cfg, HydraConfig.get().overrides.task)
        L.seed_everything(cfg.seed, workers=True, verbose=False)
        history, checkpoints = History(cfg.output_dir), instantiate(cfg.checkpoint)
        callbacks = [*pruner.pruners(cfg), tensorboard.MarkSuccess(), restore.CheckRestored(), checkpoints]
        checkpoints.run = resume.identify(cfg)
        trainer = build.build_trainer(cfg, history, *callbacks, resumed_epochs=resumed and resumed.finished_epochs)
        classifier, datamodule = build.build_classifier(cfg), instantiate(cfg.data)
        datamodule.local_batch_size(trainer.world_size)  # several processes must be able to share the batch
        checkpoint = resumed and resumed.checkpoint
        if cfg.init_weights and not checkpoint:
            weights.initialize(classifier.get_submodule("net"), Path(cfg.init_weights).expanduser())
        datamodule.prepare_data()  # before the record: without the data there is no run
        start_record(cfg, trainer)
        with _resume_hint(cfg), friendly_errors(trainer, classifier, datamodule):
            with restore.restoring(checkpoint):
                trainer.fit(classifier, datamodule, ckpt_path=checkpoint)
            finish(cfg, trainer, history, datamodule)
        if trainer.is_global_zero:
            checkpoints.prune()


def start_record(cfg: DictConfig, trainer: "L.Trainer") -> None:
    """Record the configuration and the hyperparameters in the run's folder."""
    from fashion_vgg.training import tensorboard

    if not trainer.is_global_zero:
        return
    hydra_cfg, folder = HydraConfig.get(), Path(cfg.output_dir)
    atomic.sweep(folder)
    for result in (run_folder.SUMMARY, run_folder.OUTCOME):  # a run that is resumed is unfinished again
        (folder / result).unlink(missing_ok=True)
    run_folder.record(folder, cfg, hydra_cfg.overrides.task)
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    tensorboard.leave_errors_to_the_main_thread()
    for logger in trainer.loggers:
        logger.log_hyperparams(settings)
    columns = tensorboard.hyperparameters(cfg, hydra_cfg.runtime.choices, hydra_cfg.overrides.task)
    tensorboard.begin(trainer, columns)
    log.info("Results go to %s", folder)


def finish(cfg: DictConfig, trainer: "L.Trainer", history: "History", datamodule: "FashionMNISTDataModule") -> None:
    """Test the best checkpoint if there is a validation split, write ``summary.json`` last, print the book's lines."""
    from fashion_vgg.runs import summary
    from fashion_vgg.training import tensorboard

    rows, seconds, reason = list(history.rows), history.seconds, stop_reason(trainer)  # before the best's are loaded
    test, best_epoch = test_best(trainer, datamodule) if cfg.data.val_size else ({}, None)
    if not trainer.is_global_zero:
        return
    if not rows:
        raise UserError("The training ended within its first epoch: allow more time or steps.")
    device, overrides = trainer.strategy.root_device, list(HydraConfig.get().overrides.task)
    content = summary.summarize(rows, test, seconds, device, trainer.world_size, overrides, reason, best_epoch)
    if test and best_epoch is None:  # without a best checkpoint the last weights are tested
        content["final"] = content["best"] = {**content["final"], **test}
    if cfg.data.val_size and not any("val/acc" in row for row in rows):
        log.warning("There was no evaluation on the validation split: the last weights are tested.")
    if test:
        tensorboard.add_best(trainer, content["best"], len(rows))
    summary.write(Path(cfg.output_dir, run_folder.SUMMARY), content)
    log.info("%s", summary.result_lines(content))


def test_best(trainer: "L.Trainer", datamodule: "FashionMNISTDataModule") -> tuple[dict[str, float], int | None]:
    """The test metrics of the best checkpoint on the validation split, and its epoch; or else of the last step."""
    from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging

    from fashion_vgg.checkpoints import checkpoint_io

    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    best = [callback.best_model_path for callback in callbacks if callback.monitor and callback.best_model_path]
    module, path = trainer.lightning_module, best[0] if best else None
    checkpoint = checkpoint_io.load(Path(path)) if path else {}
    if path and any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        # Lightning would restore the weights that were trained in place of their averages.
        module.load_state_dict(checkpoint["state_dict"])
        path = None
    # The module is passed, since Lightning would choose a checkpoint without it.
    trainer.test(module, datamodule=datamodule, ckpt_path=path, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    return metrics, checkpoint["epoch"] + 1 if checkpoint else None


def stop_reason(trainer: "L.Trainer") -> str | None:
    """Why the training ended before its last epoch, as `EarlyStopping` or ``trainer.max_time`` has it; else None."""
    from lightning.pytorch.callbacks import EarlyStopping, Timer

    if trainer.current_epoch == trainer.max_epochs:
        return None
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return str(callback.stopping_reason_message).removesuffix(" Signaling Trainer to stop.")
        if isinstance(callback, Timer) and (callback.time_remaining() or 1) <= 0:
            return "trainer.max_time is over."
    return None


@contextmanager
def _locked_folders(cfg: DictConfig) -> Iterator[None]:
    """Lock the run's folder and that of its checkpoints, in the first process of a training."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    with ExitStack() as locks:
        for folder in (Path(cfg.output_dir), Path(cfg.checkpoint.folder)):
            if getattr(rank_zero_only, "rank", 0) == 0:
                folder.mkdir(parents=True, exist_ok=True)
                locks.enter_context(run_folder.lock(folder))
        yield


@contextmanager
def _resume_hint(cfg: DictConfig) -> Iterator[None]:
    """Add the command that resumes the training to whatever ends it."""
    sweep = Path(HydraConfig.get().sweep.dir)
    command = sweep_folder.resume_command(sweep) if in_sweep() else resume.resume_command(Path(cfg.output_dir))
    signals.hint = f"Resume with: {command}"
    try:
        yield
    except CheckpointError:
        raise
    except BaseException as error:
        kept = resume.resumable_checkpoints(Path(cfg.checkpoint.folder))
        if kept or not isinstance(error, Exception) or isinstance(error, ProcessError):
            checkpoint = f"The last checkpoint is {kept[0]}. " if kept and isinstance(error, Exception) else ""
            error.add_note(f"{checkpoint}{signals.hint}")
        raise
