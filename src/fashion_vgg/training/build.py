"""Builds what a configuration describes: the network, the LightningModule, the Trainer."""

import inspect
import logging
import sys
import warnings

import lightning as L
import torch
from hydra.utils import get_class, instantiate
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig
from torch import nn

from fashion_vgg.checkpoints.checkpoint_io import CheckedCheckpointIO
from fashion_vgg.config import targets
from fashion_vgg.errors import UserError
from fashion_vgg.training import precision, schedules
from fashion_vgg.training.callbacks.epoch_bar import EpochBar
from fashion_vgg.training.callbacks.history import History
from fashion_vgg.training.callbacks.whitening import Whitening

log = logging.getLogger(__name__)


def configure_lightning_logging() -> None:
    """Silence what Lightning reports about every run, and the warnings that do not apply here.

    What a callback or a profiler reports was asked for, and is printed.
    """
    logging.getLogger("lightning").handlers.clear()  # they repeat what the job's log prints
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).handlers.clear()
        logging.getLogger(package).setLevel(logging.INFO)
        for module in ("accelerators", "trainer", "utilities"):
            logging.getLogger(f"{package}.{module}").setLevel(logging.WARNING)
    for message in (
        "your dataloader is not resumable",  # ours is (see `data.loader`)
        "does not have many workers",  # batches are slices of memory, which need no workers
        "Checkpoint directory .* exists and is not empty",  # a new run's folder has its config already
        "A `OneCycleLR` scheduler is using 'interval': 'epoch'",  # then it takes the number of epochs
        r"Detected call of `lr_scheduler.step\(\)` before",  # a run that is resumed at the end of an epoch
        "The `srun` command is available on your system but is not used",  # an ordinary run on a cluster's machine
        "`ModelCheckpoint.* could not find the monitored key",  # before the first evaluation; after it, an error
        "`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", f".*{message}")


def check_components(cfg: DictConfig) -> None:
    """Replace a precision of ``auto`` by the machine's, and build the network and the optimizer without memory.

    Raises:
        UserError: a setting does not fit, or there is no such GPU; found before the data is loaded.
    """
    wanted, gpu = cfg.trainer.accelerator, torch.accelerator.current_accelerator(check_available=True)
    if wanted in ("gpu", "cuda", "mps") and (gpu is None or wanted not in ("gpu", gpu.type)):
        found = f"the GPU is of the type {gpu.type}" if gpu else "no GPU found"
        raise UserError(f"trainer.accelerator={wanted} does not fit: {found}; use cpu or auto.")
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = precision.choose(cfg.trainer.accelerator)
        targets.check(cfg)  # again: an interpolation of the precision may name another class now
    elif precision.is_emulated(cfg.trainer.precision, cfg.trainer.accelerator):
        log.warning(
            "trainer.precision=%s: this CPU computes bfloat16 more slowly than float32; 32-true or auto is faster.",
            cfg.trainer.precision,
        )
    with torch.device("meta"):
        instantiate(cfg.model)
    check_optimizer(cfg)


def check_optimizer(cfg: DictConfig) -> None:
    """Build the optimizer and its schedule for one parameter.

    Raises:
        UserError: they reject their settings.
    """
    _check_arguments(cfg, "optimizer")
    _check_arguments(cfg, "scheduler")
    try:
        optimizer = instantiate(cfg.optimizer, _convert_="all")([nn.Parameter(torch.zeros(1))])
        if schedule := instantiate(cfg.get("scheduler"), _convert_="all"):
            schedules.create(schedule, optimizer, updates=1000)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer or scheduler: {error}") from error


def _check_arguments(cfg: DictConfig, group: str) -> None:
    """Raise UserError with the overrides that fit the keys, which may be those of another class, to the class."""
    node = cfg.get(group)
    if not node:
        return
    try:
        _, *parameters = inspect.signature(get_class(node._target_)).parameters.values()  # the first is called with
    except Exception as error:
        raise UserError(f"{group}._target_={node._target_} does not fit: no such class.") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    names = [parameter.name for parameter in parameters]
    surplus = [str(name) for name in node if not str(name).startswith("_") and name not in names]
    missing = [x.name for x in parameters if x.default is x.empty and x.name not in node and x.name != "total_steps"]
    if surplus or missing:
        words = [f"takes no {', '.join(surplus)}"] * bool(surplus) + [f"needs {', '.join(missing)}"] * bool(missing)
        add = [*(f"~{group}.{name}" for name in surplus), *(f"+{group}.{name}=..." for name in missing)]
        raise UserError(f"{node._target_} {' and '.join(words)}: add {' '.join(add)}")


def build_network(cfg: DictConfig) -> nn.Module:
    """The network, compiled if ``compile`` is set."""
    return _compiled(instantiate(cfg.model), cfg.compile)


def build_classifier(cfg: DictConfig) -> L.LightningModule:
    """The LightningModule with its network, optimizer and scheduler; the network compiled if ``compile`` is set."""
    classifier: L.LightningModule = instantiate(cfg.classifier)
    _compiled(classifier.get_submodule("net"), cfg.compile)
    return classifier


def build_trainer(
    cfg: DictConfig, history: History, *callbacks: L.Callback, resumed_epochs: int | None = None
) -> L.Trainer:
    """The Trainer with its loggers and callbacks.

    Args:
        cfg: the whole configuration.
        history: is called first, so that a checkpoint contains the row of its own epoch.
        callbacks: are called after the configured ones; `PeriodicCheckpoint` last, to save the state of all others.
        resumed_epochs: finished epochs of a resumed training; TensorBoard receives the last one's metrics again.

    Raises:
        UserError: a setting of the Trainer does not fit the data or the compiled network.
    """
    purge = {} if resumed_epochs is None else {"purge_step": max(resumed_epochs, 1)}
    configured = [instantiate(node) for node in callback_nodes(cfg).values()]
    loggers = [
        instantiate(node, _convert_="all", **(purge if "TensorBoard" in node._target_ else {}))
        for node in filter(None, (cfg.get("logger") or {}).values())
    ]
    show_progress = cfg.trainer.enable_progress_bar and sys.stdout.isatty()
    # Lightning's default depends on whether rich is installed.
    own_bar = any(isinstance(callback, ProgressBar) for callback in configured)
    progress = [EpochBar(refresh_rate=10)] if show_progress and not own_bar else []
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=[history, Whitening(), *configured, *progress, *callbacks],
        logger=loggers,
        plugins=[CheckedCheckpointIO()],
        enable_progress_bar=show_progress,
    )
    if cfg.compile and any(getattr(logger, "_log_graph", False) for logger in loggers):
        raise UserError(f"compile={cfg.compile} does not fit log_graph=true: a compiled network has no graph to log.")
    if cfg.compile not in (None, "default") and trainer.accumulate_grad_batches > 1:
        raise UserError(f"compile={cfg.compile} does not fit accumulate_grad_batches: CUDA graphs overwrite the sums.")
    return trainer


def callback_nodes(cfg: DictConfig) -> dict[str, DictConfig]:
    """The configured callbacks; ``best``, which keeps the best checkpoint, needs a validation split."""
    nodes = {name: node for name, node in (cfg.get("callbacks") or {}).items() if node}
    return {name: node for name, node in nodes.items() if name != "best" or cfg.data.val_size}


def _compiled(net: nn.Module, mode: str | None) -> nn.Module:
    """Compile a network in place, so that the keys of its state stay the same."""
    if mode:
        torch.compiler.reset()  # the networks of a sweep share a cache, which has room for eight graphs
        net.compile(mode=mode, dynamic=False)
    return net
