"""The values that fit each key of the configuration, known before torch is imported, so that a slip costs no wait."""

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fashion_vgg.config.overrides import shown
from fashion_vgg.errors import UserError


@dataclass(frozen=True)
class Rule:
    """``fits`` decides, ``values`` says it in words that complete "use ..."."""

    fits: Callable[[Any], bool]
    values: str


def integer(least: int, most: float = math.inf) -> Rule:
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Rule(lambda v: type(v) is int and least <= v <= most, f"an integer {limits}")


def number(least: float, most: float = math.inf) -> Rule:
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Rule(lambda v: type(v) in (int, float) and least <= v <= most and math.isfinite(v), f"a number {limits}")


def positive() -> Rule:
    return Rule(lambda v: type(v) in (int, float) and 0 < v < math.inf, "a number above 0")


def one_of(*choices: Any) -> Rule:
    values = shown(choices[0]) if len(choices) == 1 else f"one of {', '.join(shown(c) for c in choices)}"
    return Rule(lambda v: any(v == c and type(v) is type(c) for c in choices), values)


def text() -> Rule:
    return Rule(lambda v: isinstance(v, str) and v != "", "a text")


def either(*rules: Rule) -> Rule:
    return Rule(lambda v: any(rule.fits(v) for rule in rules), " or ".join(rule.values for rule in rules))


BOOLEAN = one_of(True, False)
ARCHITECTURE = Rule(
    lambda v: OmegaConf.is_list(v) and len(v) > 0 and all(map(_is_block, v)),
    "a list of pairs [convolutions, channels], the convolutions a number or a list of odd kernel sizes and lrn",
)
PICTURES = (".png", ".svg", ".pdf")
COUNTS = Rule(
    lambda v: OmegaConf.is_list(v) and len(v) > 0 and all(type(count) is int and count > 0 for count in v),
    "a list of integers above 0",
)
SHARE_OR_COUNT = either(integer(0), number(0, 1))
"""Lightning's limits on batches: a count of them, or a share of all."""
SHARE_OR_COUNT_ABOVE_0 = either(integer(1), Rule(lambda v: type(v) is float and 0 < v <= 1, "a number above 0, to 1"))

RULES: dict[str, Rule] = {
    "seed": integer(0, 2**32 - 1),
    "image_size": integer(1),
    "in_channels": integer(1),
    "batch_size": integer(1),
    "num_classes": integer(2),
    "compile": one_of(None, "default", "reduce-overhead", "max-autotune"),
    "layers": BOOLEAN,
    "measure": BOOLEAN,
    "format": one_of("table", "markdown", "json"),
    "picture": either(one_of(None), Rule(lambda v: Path(str(v)).suffix in PICTURES, f"a file {', '.join(PICTURES)}")),
    "output_dir": text(),
    "data.root": text(),
    "data.val_size": either(one_of(0), integer(10, 59_990)),
    "data.split_seed": integer(0),
    "data.mean": number(0, 1),
    "data.std": positive(),
    "data.flip": number(0, 1),
    "data.shift": integer(0, 28),
    "data.erase": integer(0, 28),
    "data.num_workers": integer(0),
    "model.conv_arch": ARCHITECTURE,
    "model.ratio": integer(1),
    "model.batch_norm": BOOLEAN,
    "model.pool_before_norm": BOOLEAN,
    "model.relu_between": BOOLEAN,
    "model.weights": either(one_of(None), text()),
    "model.head": one_of("dense", "light"),
    "model.hidden": integer(1),
    "model.dropout": number(0, 1),
    "data.worker_timeout": positive(),
    "classifier.label_smoothing": number(0, 1),
    "checkpoint.folder": text(),
    "checkpoint.every_minutes": number(0),
    "checkpoint.keep": integer(1),
    "weights": text(),
    "to": either(one_of(None), text()),
    "resume": either(one_of(None), text()),
    "sweep.resume": either(one_of(None), text()),
    "sweep.fail_fast": BOOLEAN,
    "sweep.objective": Rule(lambda v: str(v).startswith("val/"), "a figure of the validation split, such as val/acc"),
    "sweep.trial": either(one_of(None), integer(0)),
    "sweep.space": Rule(OmegaConf.is_dict, "a table of keys and the values to search"),
    "sweep.worst": number(-math.inf),
    "optimizer.lr": positive(),
    "optimizer.momentum": number(0),
    "optimizer.weight_decay": number(0),
    "optimizer.nesterov": BOOLEAN,
    "scheduler.max_lr": positive(),
    "scheduler.pct_start": number(0, 1),
    "scheduler.anneal_strategy": one_of("cos", "linear"),
    "scheduler.cycle_momentum": BOOLEAN,
    "scheduler.div_factor": positive(),
    "scheduler.final_div_factor": positive(),
    "trainer.accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.devices": either(integer(1), one_of("auto"), Rule(OmegaConf.is_list, "a list of device numbers")),
    "trainer.num_nodes": integer(1),
    "trainer.strategy": text(),
    "trainer.precision": one_of("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"),
    "trainer.max_epochs": integer(1),
    "trainer.limit_train_batches": SHARE_OR_COUNT_ABOVE_0,
    "trainer.limit_val_batches": SHARE_OR_COUNT,
    "trainer.limit_test_batches": SHARE_OR_COUNT,
    "trainer.check_val_every_n_epoch": integer(1),
    "trainer.deterministic": either(BOOLEAN, one_of("warn")),
    "trainer.enable_progress_bar": BOOLEAN,
    "bench.rounds": integer(1),
    "bench.block_seconds": positive(),
    "bench.seed_loop.image_size": Rule(lambda v: type(v) is int and v > 0 and v % 32 == 0, "a multiple of 32"),
    "bench.seed_loop.batch_size": integer(1),
    "bench.seed_loop.lr": positive(),
    "bench.growth.batch_size": COUNTS,
    "bench.growth.image_size": COUNTS,
    "callbacks.slow_run_notice.longer_than_minutes": number(0),
    "callbacks.slow_run_notice.quick_command": text(),
}


_NEEDED = ("checkpoint", "classifier")
_FOLLOWING = {
    "in_channels": ("model.in_channels", "data.channels"),
    "image_size": ("model.image_size", "data.image_size"),
    "num_classes": ("model.num_classes",),
}
"""A key, and those that must have its value."""


def _is_block(block: Any) -> bool:
    if not (OmegaConf.is_list(block) and len(block) == 2 and _is_count(block[1])):
        return False
    convs = block[0]
    if not OmegaConf.is_list(convs):
        return _is_count(convs)
    kernels = [kernel for kernel in convs if kernel != "lrn"]
    return len(kernels) > 0 and all(_is_count(kernel) and kernel % 2 == 1 for kernel in kernels)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def check(cfg: DictConfig) -> None:
    """Hold every value against its rule.

    Raises:
        UserError: names the first key whose value does not fit, and the values that do.
    """
    for key, rule in RULES.items():
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if (node is not None and not isinstance(node, DictConfig)) or (
            parent in _NEEDED and cfg.get(parent, "") is None
        ):
            raise UserError(f"{parent}={shown(node)} does not fit: it has keys of its own, such as {key}.")
        if isinstance(node, DictConfig) and name in node and not rule.fits(node[name]):
            raise UserError(f"{key}={shown(node[name])} does not fit: use {rule.values}.")
    for key, following in _FOLLOWING.items():
        for other in following if key in cfg else ():
            if (value := OmegaConf.select(cfg, other, default=cfg[key])) != cfg[key]:
                raise UserError(f"{other}={shown(value)} does not fit {key}={shown(cfg[key])}: set {key} alone.")


def suggestion(word: str, words: Iterable[str]) -> str:
    """`` Did you mean ...?`` with the word nearest to ``word``, or nothing where none is near."""
    words = list(words)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    # The right name in the wrong group, or in none: lr for optimizer.lr.
    same_name = [w for w in words if w.rpartition(".")[2] == word.rpartition(".")[2]]
    best = (same_name or near)[:1]
    return f" Did you mean {best[0]}?" if best else ""
