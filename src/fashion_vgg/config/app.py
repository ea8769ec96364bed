"""From the command line to a checked configuration: what the commands share."""

import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from fashion_vgg.checkpoints import signals
from fashion_vgg.config import targets, validation
from fashion_vgg.errors import Stopped, UserError

# In a wheel the configs lie inside the package, in a checkout at its top.
_PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf") if folder.is_dir())

# Hydra 1.3 puts our hydra/launcher/joblib.yaml on top of the plugin's config of that name, which is what we want.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

# ${token:} tells apart the folders of runs that start in the same second.
OmegaConf.register_new_resolver("token", lambda: secrets.token_hex(4), use_cache=True, replace=True)


def _folder_name(overrides: str) -> str:
    """A job's overrides as the name of one folder: without a slash, and within the 255 bytes that systems allow."""
    name = overrides.replace("/", "_")
    return name if len(name.encode()) <= 200 else f"{name[:150]}...{hashlib.sha256(name.encode()).hexdigest()[:8]}"


OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)


def _jobs_at_once() -> int:
    """As many as there are GPUs, or else as four cores each can run, at least two."""
    import torch

    return torch.cuda.device_count() or max(2, (os.cpu_count() or 1) // 4)


OmegaConf.register_new_resolver("jobs_at_once", _jobs_at_once, use_cache=True, replace=True)


def command(
    config_name: str,
    prepare: Callable[[Sequence[str]], list[str]] | None = None,
    sweep: Callable[[DictConfig, Callable[[DictConfig], Any]], Any] | None = None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make ``task(cfg)`` a command: compose ``conf/<config_name>.yaml`` with the command line, check it, run the task.

    A user's mistake ends it with exit status 2 and one or two lines, a training that goes wrong with 1, a signal with
    128 and its number; ``HYDRA_FULL_ERROR=1`` shows the traceback of a mistake.

    Args:
        config_name: the composition root.
        prepare: takes and gives the command line's arguments, before Hydra reads them.
        sweep: runs a job of a sweep, given its configuration and the task with its checks; without it, an error of a
            job goes to Hydra, so that the other jobs run before it is told.
        around: the context of the whole, in the process that the user started.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def checked(cfg: DictConfig) -> Any:
            targets.check(cfg)
            validation.check(cfg)
            return task(cfg)

        @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
        def job(cfg: DictConfig) -> Any:
            if in_sweep() and sweep:
                return sweep(cfg, checked)
            with _mistakes_told(config_name, unless=in_sweep() or _tracebacks_wanted()):
                return checked(cfg)

        @functools.wraps(task)
        def main() -> None:
            signals.listen()
            with _stop_told(), _mistakes_told(config_name, unless=_tracebacks_wanted()):
                targets.check_named_folders(sys.argv[1:])
                if prepare:
                    sys.argv[1:] = prepare(sys.argv[1:])
                with around():
                    job()

        return main

    return decorate


def in_sweep() -> bool:
    """Whether this job is one of several."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _tracebacks_wanted() -> bool:
    """Whether the user set HYDRA_FULL_ERROR; set it where not, so that Hydra raises errors instead of printing them."""
    ours = "FASHION_VGG_SET_FULL_ERROR"  # for the processes that this one starts
    if "HYDRA_FULL_ERROR" not in os.environ:
        os.environ |= {"HYDRA_FULL_ERROR": "1", ours: "1"}
    return ours not in os.environ


@contextmanager
def _stop_told() -> Iterator[None]:
    try:
        yield
    except Stopped as stopped:
        if stopped.signum:
            print(with_notes(stopped, str(stopped)).replace("\n", " "), file=sys.stderr)
        sys.exit(stopped.status)


@contextmanager
def _mistakes_told(config_name: str, unless: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = explain(error, config_name)
        if unless or message is None:
            raise
        print(with_notes(error, message), file=sys.stderr)
        sys.exit(error.status if isinstance(error, UserError) else 2)


def with_notes(error: BaseException, message: str) -> str:
    """A message for an error, and what was added to it on its way."""
    return "\n".join([message, *getattr(error, "__notes__", ())])


def explain(error: BaseException, config_name: str) -> str | None:
    """One or two lines for an error that the user can mend, None for any other."""
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, which may not have been imported
        return f"trainer: {error}"
    match error:
        case UserError():
            return str(error)
        case ModuleNotFoundError(name="optuna" | "ray" | "joblib" | "submitit" | "plotly" as package):
            return f"This needs {package}: pip install 'fashion-vgg[{_EXTRAS.get(package, package)}]'."
        case RuntimeError() if launcher := re.search(r"Unknown plugin class.*hydra_(\w+)_launcher\.", str(error)):
            return f"This needs a launcher's package: pip install 'fashion-vgg[{launcher[1]}]'."
        case OSError(errno=errno.ENOENT | errno.ENOTDIR | errno.EISDIR, filename=str(file)):
            return f"{file}: {error.strerror}. Use another folder."
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EROFS | errno.EACCES):
            path = Path(error.filename or ".")
            what = path if error.filename else "A file"
            return f"{what} cannot be written: {error.strerror} ({_free_space(path)}). Use another folder or disk."
        case MissingConfigException(missing_cfg_file=str(file), options=list(options)):
            group, _, option = file.rpartition("/")
            hint = validation.suggestion(option, options)
            return f"{group}={option}: there is no such config.{hint} There are: {', '.join(options)}."
        case OverrideParseException():
            return f"{error.override}: {error.message.splitlines()[0]}. Write key=value, and quote special characters."
        case HydraException(__cause__=ConfigKeyError() | ConfigAttributeError() as cause):
            return _unknown_key(str(cause.full_key), config_name)
        case InstantiationException() if missing := re.search(
            r"locating target '(.+?)'.*full_key: (.+)", str(error), re.S
        ):
            return f"{missing[2]}._target_={missing[1]} does not fit: there is nothing of that name."
        case InstantiationException(__cause__=UserError() | ValueError() | TypeError() as cause):
            return str(cause)
        case InstantiationException(__cause__=BaseException() as cause):
            return explain(cause, config_name)
        case ConfigCompositionException() if str(error).startswith("Ambiguous value"):
            return f"{str(error).splitlines()[0]}: several values make a sweep with -m; a list is written key=[a,b]."
        case HydraException() | OmegaConfBaseException():
            return "\n".join(str(error).strip().splitlines()[:2])
        case ValueError() if str(error).startswith("Config group override"):  # Hydra's, which names no key
            nulls = " ".join(word for word in sys.argv if word.endswith("=null"))
            return f"{nulls}: a group takes the name of one of its configs; --help lists them."
    return None


_EXTRAS = {"plotly": "report"}


def _free_space(path: Path) -> str:
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    return f"{shutil.disk_usage(existing).free / 1e6:,.1f} MB are free"


def _unknown_key(key: str, config_name: str) -> str:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = [word for word in sys.argv[1:] if word.partition("=")[0] in groups() and "," not in word]
        try:
            cfg = hydra.compose(config_name, chosen)
        except HydraException:  # a choice from the user's own folder of configs
            cfg = hydra.compose(config_name)
    group = key.partition(".")[0]
    if group in groups() and not cfg.get(group):
        options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return f"{key}: no {group} is chosen; add {group}={' or '.join(options)}."
    hint = validation.suggestion(key, [*_keys(cfg), *(groups() if "." not in key else ())])
    return f"{key}: there is no such key.{hint} --cfg job prints them all; +{key}=... adds one."


def _keys(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for name, value in cfg.items_ex(resolve=False):
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{prefix}{name!s}.")
        else:
            yield f"{prefix}{name!s}"


def groups() -> list[str]:
    """The names of the config groups."""
    return [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"]
