"""Messages for the errors of Hydra, OmegaConf and Lightning that a mistake in the configuration causes."""

import inspect
import re
import sys
import traceback

from hydra import errors
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from fashion_vgg.config import error_messages
from fashion_vgg.config.app import default_config, groups, options
from fashion_vgg.config.domains import DOMAINS
from fashion_vgg.config.overrides import flatten, key_of
from fashion_vgg.config.suggestions import closest, suggestion

_EXTRAS = {
    **{"joblib": "joblib", "optuna": "optuna", "plotly": "report", "ray": "ray", "submitit": "submitit"},
    **{"mlflow": "mlflow", "wandb": "wandb"},
    **{"captum": "analyze", "cleanlab": "analyze", "gradio": "serve"},
    **{"onnx": "onnx", "onnxruntime": "onnx", "onnxscript": "onnx"},
}
"""The package, and the extra of fashion-vgg that installs it."""


def explain(error: BaseException, command: str) -> str | None:
    """One or two lines about an error that the user can correct, None for any other error."""
    if type(error).__module__.startswith("wandb."):
        return f"logger=wandb: {str(error).strip().splitlines()[0]} Without an account: logger.wandb.offline=true."
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, which may not be imported
        return f"trainer: {error}"
    match error:
        case ModuleNotFoundError(name=str(package)) if package in _EXTRAS:
            return f"{package} is not installed: pip install 'fashion-vgg[{_EXTRAS[package]}]'."
        case ModuleNotFoundError() if logger := re.search(r"\b(wandb|mlflow)\b", str(error)):  # Lightning's
            return f"{logger[1]} is not installed: pip install 'fashion-vgg[{logger[1]}]'."
        case RuntimeError() if launcher := re.search(r"Unknown plugin class.*hydra_(\w+)_launcher\.", str(error)):
            return f"The launcher is not installed: pip install 'fashion-vgg[{launcher[1]}]'."
        case errors.MissingConfigException(missing_cfg_file=str(file), options=list(siblings)):
            return _missing_config(file, siblings)
        case errors.OverrideParseException():
            reason = re.sub(r"^\w+Exception: .*", "not in Hydra's grammar", error.message.splitlines()[0])
            return f"{error.override}: {reason}. Write key=value, and quote special characters."
        case errors.HydraException(__cause__=ConfigKeyError() | ConfigAttributeError() as cause):
            return _unknown_key(str(cause.full_key), command)
        case errors.InstantiationException():
            return _explain_instantiation(error, command)
        case errors.ConfigCompositionException() if str(error).startswith("Ambiguous value"):
            return f"{str(error).splitlines()[0]}: several values make a sweep with -m; a list is written key=[a,b]."
        case errors.ConfigCompositionException() if bad := re.match("Error merging override (.*?)=", str(error)):
            values = DOMAINS[bad[1]].values if bad[1] in DOMAINS else "a value like the default"
            return f"{str(error).strip().splitlines()[0].partition('override ')[2]} does not fit: use {values}."
        case errors.HydraException() | OmegaConfBaseException():
            return "\n".join(str(error).strip().splitlines()[:2])
        case ValueError(__cause__=OSError() as cause) if "configure handler" in str(error):  # the run's log
            return error_messages.explain(cause, command)
        case ValueError() if (text := str(error).strip()).startswith("`val_check_interval`"):  # Lightning's
            return f"trainer.{text.replace('`', '').partition('. ')[0]}."
        case ValueError() if re.match("Only one of --run|The --resolve flag", str(error)):  # Hydra's
            return str(error)
        # Hydra's, about a group without the name of a config; it names no key.
        case ValueError() if str(error).startswith("Config group override"):
            return _not_a_choice()
        case TypeError() if traceback.extract_tb(error.__traceback__)[-1].filename.endswith("defaults_list.py"):
            return _not_a_choice()
    return None


def _missing_config(file: str, siblings: list[str]) -> str:
    group, _, option = file.partition("/")
    if group in groups():
        available = options(group)
    else:  # Hydra's own, such as hydra/launcher
        (group, _, option), available = file.rpartition("/"), siblings
    own = f" Write {group}._target_={option}." if "." in option else ""
    hint = suggestion(option, available)
    return (
        f"{group}={option}: no such config.{hint}{own} Available: {', '.join(available)}; your own with --config-dir."
    )


def _not_a_choice() -> str:
    words = " ".join(word for word in sys.argv if key_of(word) in groups() and re.search(r"=(null$|[\[{])", word))
    return f"{words}: a group takes the name of one of its configs; --help lists them."


def _explain_instantiation(error: errors.InstantiationException, command: str) -> str | None:
    if missing := re.search(r"locating target '(.+?)'.*full_key: (.+)", str(error), re.DOTALL):
        return f"{missing[2]}._target_={missing[1]} does not fit: no such class."
    match error.__cause__:
        case ValueError() | TypeError() as cause:
            return str(cause)
        case BaseException() as cause:
            return error_messages.explain(cause, command)
    return str(error).splitlines()[0]


def _unknown_key(key: str, command: str) -> str:
    cfg = default_config(command, sys.argv[1:])
    group = key.partition(".")[0]
    if group in groups() and not cfg.get(group):
        choices = [name for name in options(group) if name != "none"]
        return f"{key}: no {group} is chosen; add {group}={' or '.join(choices)}."
    if choice := _choice(key):
        return f"{key}: no such key. Did you mean {choice}?"
    if best := _closest_in_group(cfg, key):
        return f"{key}: no such key. Did you mean {best}? --cfg job prints all keys."
    hint = suggestion(key, [*dict(flatten(OmegaConf.to_container(cfg))), *(groups() if "." not in key else ())])
    return f"{key}: no such key.{hint} --cfg job prints all keys; +{key}=... adds one."


def _choice(key: str) -> str | None:
    """The choice of a config that the key or its second part names, such as ``callbacks=early_stopping``."""
    group, _, rest = key.partition(".")
    named, among = (rest.partition(".")[0], [group]) if rest else (group, groups())
    return next((f"{group}={named}" for group in among if group in groups() and named in options(group)), None)


def _closest_in_group(cfg: DictConfig, key: str) -> str | None:
    """The most similar key of the same group, also if only its class has it: then with the plus that adds it."""
    group, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, group) if group else None
    if not isinstance(node, DictConfig):
        return None
    names = [str(name) for name in node]
    if best := closest(name, names):
        return f"{group}.{best}"
    arguments = list(inspect.signature(get_class(node._target_)).parameters) if "_target_" in node else []
    best = closest(name, arguments)  # the import of the class takes seconds
    return best and f"+{group}.{best}"
