"""What Hydra needs before it composes: the folder of the configs, and the resolvers that they use."""

import os
import secrets
import sys
import textwrap
import warnings
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.config import names
from fashion_vgg.config.overrides import key_of

# A wheel has the configs inside the package, a checkout at its top level.
_PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf") if folder.is_dir())

# Hydra 1.3 merges our hydra/launcher/joblib.yaml into the plugin's config of that name, as intended.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def _run_prefix(overrides: list[str], name: object, swept: list[str]) -> str:
    """The name of a run or a sweep before its time."""
    prefix = names.run_name(overrides, name, swept)
    return f"{prefix}," if prefix else ""


def _parallel_jobs() -> int:
    """One job per GPU, or without GPUs one per four CPU cores, at least two."""
    import torch

    return torch.cuda.device_count() or max(2, (os.cpu_count() or 1) // 4)


# ${token:} keeps apart the folders of runs that start in the same second.
OmegaConf.register_new_resolver("token", lambda: secrets.token_hex(3), use_cache=True, replace=True)
# Cached: the folder of a sweep is named after the sweep's overrides, also in its jobs.
OmegaConf.register_new_resolver("run_prefix", _run_prefix, use_cache=True, replace=True)
OmegaConf.register_new_resolver(
    "job_name",
    lambda overrides, *swept: names.job_name(overrides, [key_of(str(key)) for keys in swept for key in keys or ()]),
    replace=True,
)
OmegaConf.register_new_resolver("joined", lambda items: ",".join(map(str, items)), replace=True)
OmegaConf.register_new_resolver("base_name", lambda path: Path(path or "").name, replace=True)
OmegaConf.register_new_resolver("parallel_jobs", _parallel_jobs, use_cache=True, replace=True)


def in_sweep() -> bool:
    """Whether the current job is part of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def groups() -> list[str]:
    """The names of the config groups."""
    return [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"]


def options(group: str) -> list[str]:
    """The configs of a group, also of the folders that ``--config-dir`` names."""
    pairs = zip(sys.argv, [*sys.argv[1:], ""], strict=True)
    own = [
        word.partition("=")[2] or value for word, value in pairs if word.partition("=")[0] in ("-cd", "--config-dir")
    ]
    folders = [CONF / group, *(Path(folder, group) for folder in own)]
    return sorted({path.relative_to(f).with_suffix("").as_posix() for f in folders for path in f.rglob("*.yaml")})


def _groups_of(command: str) -> list[str]:
    """The groups in the defaults list of a command's root config, in its order."""
    found, removed = list[str](), set[str]()
    for item in OmegaConf.load(CONF / f"{command}.yaml").defaults:
        match item if isinstance(item, str) else next(iter(item.items())):
            case str(other):
                found += [] if other == "_self_" else _groups_of(other)
            case (key, None) if key.startswith("override "):
                removed.add(key.removeprefix("override "))
            case (key, _) if not key.startswith("override "):
                found.append(key)
    return [name for name in found if name not in removed]


def _group_help(command: str, *more: str) -> str:
    """The groups that a command takes, and their options, for its help."""
    lines = (f"{group}: {', '.join(options(group))}" for group in (*_groups_of(command), *more))
    return "\n".join(textwrap.fill(line, 112, subsequent_indent="  ") for line in lines)


OmegaConf.register_new_resolver("group_help", _group_help, replace=True)


def default_config(config_name: str, overrides: list[str]) -> DictConfig:
    """A command's configuration with the groups that the overrides choose, but without the values that they set."""
    choices = [word for word in overrides if key_of(word) in groups() and "," not in word]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return hydra.compose(config_name, choices)
        except HydraException:  # an option from the user's own config folder
            return hydra.compose(config_name)
