"""Which values a key of the configuration takes, where torch and Lightning would not explain it."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fashion_vgg.config import monitors
from fashion_vgg.config.overrides import shown


@dataclass(frozen=True)
class Domain:
    """Which values a key takes; ``values`` completes the sentence "use ..."."""

    fits: Callable[[Any], bool]
    values: str


def integer(least: int, most: float = math.inf) -> Domain:
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Domain(lambda v: type(v) is int and least <= v <= most, f"an integer {limits}")


def number(least: float, most: float = math.inf) -> Domain:
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Domain(lambda v: type(v) in (int, float) and least <= v <= most and math.isfinite(v), f"a number {limits}")


def one_of(*choices: Any) -> Domain:
    values = shown(choices[0]) if len(choices) == 1 else f"one of {', '.join(shown(c) for c in choices)}"
    return Domain(lambda v: any(v == c and type(v) is type(c) for c in choices), values)


def either(*domains: Domain) -> Domain:
    return Domain(lambda v: any(d.fits(v) for d in domains), " or ".join(d.values for d in domains))


def list_of(item: Callable[[Any], bool], values: str) -> Domain:
    return Domain(lambda v: OmegaConf.is_list(v) and len(v) > 0 and all(map(item, v)), values)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_share(value: Any) -> bool:
    return type(value) is float and 0 < value <= 1


def _is_block(block: Any) -> bool:
    if not (OmegaConf.is_list(block) and len(block) == 2 and _is_count(block[1])):
        return False
    if not OmegaConf.is_list(block[0]):
        return _is_count(block[0])
    kernels = [kernel for kernel in block[0] if kernel != "lrn"]
    return len(kernels) > 0 and all(_is_count(kernel) and kernel % 2 == 1 for kernel in kernels)


POSITIVE = Domain(lambda v: type(v) in (int, float) and 0 < v < math.inf, "a number above 0")
TEXT = Domain(lambda v: isinstance(v, str) and v != "", "a text")
STRATEGY = Domain(
    lambda v: TEXT.fits(v) and not re.search("spawn|fork|notebook", v),  # whose processes return no checkpoint
    "auto, or one whose processes repeat the command (ddp, fsdp)",
)
OPTIONAL_TEXT = either(one_of(None), TEXT)
BLOCKS = "a list of pairs [convolutions, channels], the convolutions a number or a list of odd kernel sizes and lrn"
PRECISION = one_of("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")
PLOTS = (".png", ".svg", ".pdf")

DOMAINS: dict[str, Domain] = {
    key: domain
    for keys, domain in (
        ("seed", integer(0, 2**32 - 1)),
        ("image_size in_channels batch_size model.ratio model.hidden checkpoint.keep trainer.max_epochs", integer(1)),
        (
            "trainer.num_nodes trainer.check_val_every_n_epoch trainer.accumulate_grad_batches scheduler.step_size",
            integer(1),
        ),
        ("bench.rounds bench.reference_loop.batch_size", integer(1)),
        ("num_classes", integer(2)),
        (
            "data.split_seed data.num_workers scheduler.patience callbacks.histograms.every callbacks.filters.every",
            integer(0),
        ),
        ("data.shift data.erase", integer(0, 28)),
        ("data.val_size", either(one_of(0), integer(10, 59_990))),
        ("data.mean data.flip model.dropout classifier.label_smoothing scheduler.pct_start", number(0, 1)),
        ("data.std data.worker_timeout optimizer.lr bench.block_seconds bench.reference_loop.lr", POSITIVE),
        ("optimizer.hidden_lr_factor scheduler.max_lr scheduler.div_factor scheduler.final_div_factor", POSITIVE),
        ("optimizer.momentum optimizer.weight_decay checkpoint.every_minutes", number(0)),
        ("callbacks.slow_run_notice.longer_than_minutes", number(0)),
        ("sweep.worst", either(one_of(None), number(-math.inf))),
        ("output_dir data.root checkpoint.folder host", TEXT),
        ("init_weights resume sweep.resume to weights", OPTIONAL_TEXT),
        ("tags", Domain(OmegaConf.is_list, "a list such as [first,baseline]")),
        ("model.conv_arch", list_of(_is_block, BLOCKS)),
        ("model.head", one_of("dense", "compact", "light")),
        ("compile", one_of(None, "default", "reduce-overhead", "max-autotune")),
        ("scheduler.anneal_strategy", one_of("cos", "linear")),
        ("classifier.scheduler_interval", one_of(None, "step", "epoch")),
        ("classifier.scheduler_monitor", one_of(*monitors.METRICS)),
        ("sweep.objective", Domain(lambda v: str(v).startswith("val/"), "a metric of the validation split: val/acc")),
        ("sweep.trial", either(one_of(None), integer(0))),
        ("sweep.space", Domain(OmegaConf.is_dict, "a mapping of keys to the values to search")),
        ("trainer.strategy", either(STRATEGY, Domain(OmegaConf.is_dict, "a class"))),
        ("trainer.strategy.timeout_minutes", POSITIVE),
        ("trainer.accelerator", one_of("auto", "cpu", "gpu", "cuda", "mps")),
        ("trainer.devices", either(integer(1), one_of("auto"), list_of(lambda v: type(v) is int, "a list of devices"))),
        ("trainer.precision optimizer.orthogonalization_precision", PRECISION),
        ("bench.second_precision", one_of(None, "auto", "32-true", "bf16-mixed")),
        ("trainer.deterministic", one_of(True, False, "warn")),
        ("trainer.max_steps", either(one_of(-1), integer(1))),
        ("trainer.max_time", either(one_of(None), TEXT, Domain(OmegaConf.is_dict, "a mapping such as {minutes: 30}"))),
        ("trainer.fast_dev_run", either(one_of(True, False), integer(1))),
        ("trainer.gradient_clip_val", either(one_of(None), number(0))),
        ("trainer.gradient_clip_algorithm", one_of(None, "norm", "value")),
        (
            "trainer.profiler",
            either(one_of(None, "simple", "advanced", "pytorch"), Domain(OmegaConf.is_dict, "a class")),
        ),
        # Lightning: a number of batches, or a share of all of them.
        ("trainer.limit_train_batches trainer.val_check_interval", either(integer(1), Domain(_is_share, "a share"))),
        (
            "trainer.limit_val_batches trainer.limit_test_batches trainer.overfit_batches",
            either(integer(0), number(0, 1)),
        ),
        ("bench.reference_loop.image_size", Domain(lambda v: _is_count(v) and v % 32 == 0, "a multiple of 32")),
        ("bench.growth.batch_size bench.growth.image_size", list_of(_is_count, "a list of integers above 0")),
        ("top", integer(1)),
        ("port", integer(0, 65_535)),
        ("background", one_of("auto", "dark", "light")),
        ("images", either(TEXT, list_of(lambda v: isinstance(v, str) and v != "", "a list of files"))),
        ("split", one_of("test", "val")),
        ("image", either(one_of(None), integer(0))),
        ("picture", either(one_of(None), Domain(lambda v: Path(str(v)).suffix in PLOTS, "a .png, .svg or .pdf file"))),
    )
    for key in keys.split()
}

FORMATS = {
    "describe": one_of("table", "markdown", "json"),
    "predict": one_of("table", "csv", "json"),
    "export": one_of("safetensors", "onnx", "torch_export"),
}
"""The values of ``format``, by command."""

TYPES: dict[type, Domain] = {
    bool: one_of(True, False),
    int: Domain(lambda v: type(v) is int, "an integer"),
    float: number(-math.inf),
    str: Domain(lambda v: isinstance(v, str), "a text"),
}
NODE = Domain(lambda v: v is None or OmegaConf.is_dict(v), "null, or set its keys")
