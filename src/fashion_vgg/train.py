"""``fashion-vgg train``: compose, train, and leave a folder that tells the whole story."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.allocator import keep_freed_memory
from fashion_vgg.assemble import check_parts, make_classifier, make_trainer, quieten_lightning
from fashion_vgg.compose import command, in_sweep
from fashion_vgg.errors import UserError

# torch and Lightning are imported late, where they are needed, for two reasons: help and mistakes come without the
# wait, and Lightning sends its messages to the job's log only if Hydra has set that up by then.
if TYPE_CHECKING:
    import lightning as L

    from fashion_vgg.data import FashionMNISTDataModule

log = logging.getLogger(__name__)


@command("train")
def main(cfg: DictConfig) -> None:
    check_parts(cfg)
    import lightning as L

    from fashion_vgg.callbacks import History

    keep_freed_memory()
    quieten_lightning()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    history = History(cfg.output_dir)
    trainer = make_trainer(cfg, history)
    classifier, datamodule = make_classifier(cfg), instantiate(cfg.data)
    check_processes(trainer, datamodule)
    if trainer.is_global_zero:
        OmegaConf.save(cfg, Path(cfg.output_dir, "config.yaml"), resolve=True)
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
        log.info("Results go to %s", cfg.output_dir)

    start = time.perf_counter()
    trainer.fit(classifier, datamodule)
    wall_seconds = time.perf_counter() - start
    rows = list(history.rows)  # loading a checkpoint to test it takes the history back with it
    test = test_best(trainer, datamodule) if cfg.data.val_size else {}
    if trainer.is_global_zero:
        report(cfg, trainer, rows, test, wall_seconds)


def check_processes(trainer: "L.Trainer", datamodule: "FashionMNISTDataModule") -> None:
    """Tell what the processes cannot do before the further ones are started.

    Raises:
        UserError: they cannot share the batch, or this is a sweep: Lightning would start the whole of it in each.
    """
    datamodule.share_of_batch(trainer.world_size)
    if in_sweep() and trainer.world_size > 1:
        raise UserError("A sweep runs each training in one process: start trainings of several one by one, without -m.")


def test_best(trainer: "L.Trainer", datamodule: "L.LightningDataModule") -> dict[str, float]:
    """Figures on the test set of the checkpoint that was best on the validation split, or else of the last step."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    best = [callback.best_model_path for callback in callbacks if callback.monitor and callback.best_model_path]
    trainer.test(datamodule=datamodule, ckpt_path=best[0] if best else None, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}


def report(
    cfg: DictConfig,
    trainer: "L.Trainer",
    rows: list[dict[str, float]],
    test: dict[str, float],
    wall_seconds: float,
) -> None:
    """Print the seed's lines and write ``summary.json``, the last thing a run does."""
    from fashion_vgg import summary

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
    summary.write(Path(cfg.output_dir, "summary.json"), content)
    log.info("%s", summary.result_lines(content))


if __name__ == "__main__":
    main()
