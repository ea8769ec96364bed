"""What a configuration may make: classes of these modules, and nothing else.

Hydra calls whatever a ``_target_`` names, and refuses little of it; a configuration from elsewhere could load a pickle
or copy files. Here only a class of a listed module passes, named directly in it, before anything is imported or made.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fashion_vgg.errors import UserError

MODULES = (
    "fashion_vgg.checkpoints",
    "fashion_vgg.data",
    "fashion_vgg.models",
    "fashion_vgg.training",
    "lightning",
    "lightning.pytorch",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "torch.optim",
    "torch.optim.lr_scheduler",
)

TRUSTED = "FASHION_VGG_TRUST"
"""The environment variable that adds modules of one's own, separated by commas."""


def check(cfg: DictConfig) -> None:
    """Hold every ``_target_``, however deep, against the list.

    Raises:
        UserError: names the first that does not fit.
    """
    modules = {*MODULES, *os.environ.get(TRUSTED, "").split(",")}
    for key, target in _targets(cfg):
        module, _, name = str(target).rpartition(".")
        if module not in modules or not re.fullmatch("[A-Z][A-Za-z0-9]*", name):
            raise UserError(
                f"{key}={target} does not fit: a configuration may make classes of {', '.join(MODULES)}.\n"
                f"To trust a module of your own, name it in the environment: {TRUSTED}={module or '<module>'}."
            )


def check_named_folders(argv: Sequence[str]) -> None:
    """Hold the configurations of the folders that a command line brings in against what of Hydra's own runs code.

    Hydra itself makes its callbacks and logging before it gives a configuration out.

    Raises:
        UserError: names the first file that would.
    """
    flags = ("-cp", "--config-path", "-cd", "--config-dir")
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        flag, _, value = word.partition("=")
        if flag in flags:
            for path in sorted(Path(value or following).rglob("*.yaml")):
                _check_hydras_own(path, in_hydras_group="hydra" in path.relative_to(value or following).parts[:-1])


_OURS = "fashion_vgg.sweeps.RecordSweep"
_CAN_RUN_CODE = ("callbacks", "job_logging", "hydra_logging", "searchpath")
_TEXTS = ("filename", "format", "datefmt", "level")  # of a logging configuration, where interpolations are common


def _check_hydras_own(path: Path, in_hydras_group: bool) -> None:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception:  # Hydra says what is wrong with it, if it is read at all
        return
    if not isinstance(content, dict):
        return
    if "@hydra" in str(content.get("defaults")):
        raise UserError(f"{path}: its defaults put a config into Hydra's own, which can run code: it was not used.")
    if in_hydras_group or re.search(r"@package\s+hydra", path.read_text()):
        own: dict[str, Any] = {"": content}
    elif isinstance(content.get("hydra", {}), dict):
        own = {key: content.get("hydra", {}).get(key) for key in _CAN_RUN_CODE}
    else:
        own = {"": "${"}
    for key, node in own.items():
        if _runs_code(key, node):
            raise UserError(f"{path}: what it sets as hydra{key and '.'}{key} can run code, and was not used.")


def _runs_code(key: str, node: Any) -> bool:
    if key == "searchpath":
        return bool(node)
    if isinstance(node, list):
        return any(_runs_code("", item) for item in node)
    if not isinstance(node, dict):
        return key not in _TEXTS and "${" in str(node)  # which can give anything
    handler = re.fullmatch(r"logging(\.handlers)?\.[A-Z]\w*", str(node.get("class", "logging.Handler")))
    maker = node.get("_target_", _OURS) != _OURS or "()" in node or not handler
    return maker or any(_runs_code(name, value) for name, value in node.items())


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        for name in node:
            if name == "_target_":
                yield f"{prefix}_target_", node[name]
            else:
                # What an interpolation gives counts, too; one that gives nothing cannot be made.
                with suppress(OmegaConfBaseException):
                    yield from _targets(node[name], f"{prefix}{name!s}.")
    elif isinstance(node, ListConfig):
        for index, item in enumerate(node):
            yield from _targets(item, f"{prefix}{index}.")
