"""From a checked configuration to the objects that train; torch and Lightning are imported late (see `train`)."""

import copy
import logging
import sys
import warnings
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from fashion_vgg.config import targets
from fashion_vgg.errors import UserError

if TYPE_CHECKING:
    import lightning as L
    from torch import nn

    from fashion_vgg.training.callbacks import History


def configure_lightning_logging() -> None:
    """Leave out what Lightning says of every run, and the warnings that do not hold here; the others stay."""
    import lightning.pytorch  # noqa: F401  # which sets its loggers up when it is imported

    logging.getLogger("lightning").handlers.clear()  # they print a second time what the job's log prints
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    for message in (
        "your dataloader is not resumable",  # ours goes on where the training does (see `data.ResumableLoader`)
        "does not have many workers",  # batches are slices of memory: a loader keeps up without
        "Checkpoint directory .* exists and is not empty",  # the run's folder is new, and has its config by then
        "`isinstance.treespec, LeafSpec.` is deprecated",  # of Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", f".*{message}")


def check_components(cfg: DictConfig) -> None:
    """Look for the GPU, and build the network without memory for its weights and the optimizer for one parameter.

    What is left to the machine, a precision of ``auto``, is decided and put into the configuration.

    Raises:
        UserError: a setting does not fit; told now, not when the training begins.
    """
    import torch

    if cfg.trainer.accelerator in ("gpu", "cuda", "mps") and not torch.accelerator.is_available():
        raise UserError(
            f"trainer.accelerator={cfg.trainer.accelerator} does not fit: there is no GPU; use cpu or auto."
        )
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = "bf16-mixed" if bf16_is_fast(cfg.trainer.accelerator) else "32-true"
        targets.check(cfg)  # again: an interpolation may give something else now
    with torch.device("meta"):
        network(cfg.model)
    check_optimizer(cfg)


def check_optimizer(cfg: DictConfig) -> None:
    """Build the optimizer and its scheduler for one parameter.

    Raises:
        UserError: they refuse their settings.
    """
    import torch

    try:
        optimizer = instantiate(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))])
        if cfg.get("scheduler"):
            instantiate(cfg.scheduler)(optimizer, total_steps=10)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer or scheduler: {error}") from error


def bf16_is_fast(accelerator: str) -> bool:
    """Whether the hardware multiplies matrices of bfloat16: a GPU's tensor cores, a processor's AMX tiles."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return accelerator in ("auto", "cpu") and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def build_trainer(
    cfg: DictConfig, history: "History", *further: "L.Callback", epochs_done: int | None = None
) -> "L.Trainer":
    """The Trainer with its loggers, the configured callbacks, and further ones after them.

    Args:
        cfg: the whole configuration.
        history: comes first, so that a checkpoint has the row of its own epoch.
        further: come last; the checkpoints do, so that they have what the others did.
        epochs_done: by the training that is resumed; TensorBoard gets the last one's figures, and later ones', again.

    Raises:
        UserError: a setting of the Trainer does not go with the data or the compiled network.
    """
    from fashion_vgg.checkpoints.checkpoint_io import CheckedCheckpointIO

    nodes = cfg.get("callbacks") or {}
    callbacks = [instantiate(node) for node in nodes.values() if fits_split(node, cfg.data.val_size)]
    again = {} if epochs_done is None else {"purge_step": max(epochs_done, 1)}
    loggers = [
        instantiate(node, **(again if "TensorBoard" in node._target_ else {}))
        for node in (cfg.get("logger") or {}).values()
    ]
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=[history, *callbacks, *further],
        logger=loggers,
        plugins=[CheckedCheckpointIO()],
        enable_progress_bar=cfg.trainer.enable_progress_bar and sys.stdout.isatty(),
    )
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        raise UserError("trainer.overfit_batches does not fit: batches are dealt out whole; use limit_train_batches.")
    if cfg.compile not in (None, "default") and trainer.accumulate_grad_batches > 1:
        raise UserError(
            f"compile={cfg.compile} does not fit accumulate_grad_batches, whose sums CUDA graphs overwrite."
        )
    return trainer


def fits_split(callback: DictConfig, val_size: int) -> bool:
    """Whether what a callback monitors is logged: without a validation split nothing under ``val/`` is."""
    return bool(val_size) or not str(callback.get("monitor", "")).startswith("val/")


def build_classifier(cfg: DictConfig) -> "L.LightningModule":
    """The LightningModule around the network."""
    classifier: L.LightningModule = instantiate(
        cfg.classifier,
        net=build_network(cfg),
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.get("scheduler")),
    )
    return classifier


def network(model: DictConfig) -> "nn.Module":
    """The network of a model's configuration, whose key ``weights`` is no matter of it (see `pretrained`)."""
    own = copy.copy(model)
    with open_dict(own):
        own.pop("weights", None)
    net: nn.Module = instantiate(own)
    return net


def build_network(cfg: DictConfig) -> "nn.Module":
    """The network, compiled where that is wanted: in place, so that a checkpoint's keys are the same."""
    net = network(cfg.model)
    if cfg.compile:
        import torch

        torch.compiler.reset()  # a sweep's networks would fill one cache, and the ninth graph would not be compiled
        net.compile(mode=cfg.compile, dynamic=False)
    return net
