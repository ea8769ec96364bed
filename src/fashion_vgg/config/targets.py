"""The classes that a configuration may instantiate.

Hydra calls whatever a ``_target_`` names, so a configuration from elsewhere could load a pickle or copy files. Only a
class that is named directly in one of the listed modules is allowed, and it is checked before anything is imported.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fashion_vgg.checkpoints import text_files
from fashion_vgg.checkpoints.text_files import RecordError
from fashion_vgg.errors import UserError

MODULES = (
    *("fashion_vgg.checkpoints", "fashion_vgg.data", "fashion_vgg.models", "fashion_vgg.training", "lightning"),
    *("lightning.pytorch", "lightning.pytorch.callbacks", "lightning.pytorch.loggers", "lightning.pytorch.profilers"),
    *("lightning.pytorch.strategies", "torch.optim", "torch.optim.lr_scheduler"),
)

TRUSTED = "FASHION_VGG_TRUST"
"""Environment variable: the user's own modules to allow, separated by commas."""

_LOGGING_CLASS = re.compile(
    r"logging(\.handlers)?\.[A-Z]\w*|fashion_vgg\.(errors\.PrintableFormatter|config\.log_file\.LogFile)"
)
_RECORD_SWEEP = "fashion_vgg.sweeps.RecordSweep"
_CAN_RUN_CODE = ("callbacks", "job_logging", "hydra_logging", "searchpath")
"""Keys of Hydra's own configuration; also ``job.env_set``, since environment variables include `TRUSTED`."""
_OF_HYDRA = r"[\w.]*\bhydra\b"
"""A package of Hydra's own configuration, also ``_global_.hydra``."""
_UNCHECKED_FILE = r"""\.\.|//|[^'"]\$\{|\$\{[^}]*\}[^'"]"""
"""In a defaults list: outside of the folder, also by a part of a name that is an interpolation."""
_LOGGING_TEXTS = ("filename", "format", "datefmt", "level")
"""Keys of a logging configuration that may hold interpolations."""


def check(cfg: DictConfig, modules: Sequence[str] = MODULES) -> None:
    """Raise UserError at the first ``_target_``, however deep, that is neither in the modules nor in the user's own."""
    allowed = {*modules, *os.environ.get(TRUSTED, "").split(",")}
    for key, target in _targets(cfg):
        module, _, name = str(target).rpartition(".")
        if module not in allowed:
            raise UserError(
                f"{key}={target} does not fit: a configuration may instantiate classes of {', '.join(modules)}.\n"
                f"To allow a module of your own, name it in the environment: {TRUSTED}={module or '<module>'}."
            )
        if not re.fullmatch("[A-Z][A-Za-z0-9]*", name):
            raise UserError(
                f"{key}={target} does not fit: use a class, such as one of your own that calls this function."
            )


def check_config_folders(argv: Sequence[str]) -> None:
    """Raise UserError if a file of ``--config-path`` or ``--config-dir`` sets Hydra's own keys that run code.

    Hydra instantiates its callbacks and its logging before it returns a configuration.
    """
    flags = ("-cp", "--config-path", "-cd", "--config-dir")
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        flag, _, value = word.partition("=")
        if flag in flags:
            folder = Path(value or following)
            for path in sorted(folder.rglob("*")):
                if path.is_symlink() and path.is_dir():
                    raise UserError(f"{path} is a link to another folder, whose files are not checked: refused.")
                if path.suffix == ".yaml":
                    _check_file(path, in_hydra_group="hydra" in path.relative_to(folder).parts[:-1])


def _check_file(path: Path, in_hydra_group: bool) -> None:
    text = text_files.read_text(path) or ""
    try:
        text_files.check_size(path, text)
        content = OmegaConf.to_container(OmegaConf.create(text))
    except RecordError:
        raise
    except Exception:  # Hydra reports what is wrong with a file that it reads
        return
    if not isinstance(content, dict):
        return
    defaults = str(content.get("defaults"))
    if re.search(rf"@{_OF_HYDRA}", defaults):
        raise UserError(f"{path}: its defaults change Hydra's own configuration, which can run code: refused.")
    if re.search(_UNCHECKED_FILE, defaults):
        raise UserError(f"{path}: its defaults may name a file outside of the folder, which is not checked: refused.")
    hydra_node = content.get("hydra", {})
    package = re.search(rf"@package\s+{_OF_HYDRA}(\S*)", text)
    if in_hydra_group or package:
        settings: dict[str, Any] = {"env_set" if package and "env_set" in package[1] else "": content}
    elif isinstance(hydra_node, dict):
        job = hydra_node.get("job")
        settings = {key: hydra_node.get(key) for key in _CAN_RUN_CODE}
        settings["job"] = {"env_set": job.get("env_set")} if isinstance(job, dict) else job
    else:
        settings = {"": "${"}
    for key, node in settings.items():
        if _runs_code(key, node):
            raise UserError(f"{path}: its setting of hydra{key and '.'}{key} can run code: refused.")


def _runs_code(key: str, node: Any) -> bool:
    if key in ("searchpath", "env_set"):
        return bool(node)
    if isinstance(node, list):
        return any(_runs_code("", item) for item in node)
    if not isinstance(node, dict):
        return key not in _LOGGING_TEXTS and "${" in str(node)  # an interpolation can return anything
    handler = _LOGGING_CLASS.fullmatch(str(node.get("class", "logging.Handler")))
    factory = node.get("_target_", _RECORD_SWEEP) != _RECORD_SWEEP or "()" in node or not handler
    return factory or any(_runs_code(name, value) for name, value in node.items())


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        for name in node:
            if name == "_target_":
                yield f"{prefix}_target_", node[name]
            else:
                # Interpolations are resolved; one that cannot be resolved cannot be instantiated either.
                with suppress(OmegaConfBaseException):
                    yield from _targets(node[name], f"{prefix}{name!s}.")
    elif isinstance(node, ListConfig):
        for index, item in enumerate(node):
            yield from _targets(item, f"{prefix}{index}.")
