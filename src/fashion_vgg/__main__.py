"""``fashion-vgg <command> [hydra overrides]``, and the same as ``python -m fashion_vgg``."""

import argparse
import atexit
import importlib
import inspect
import logging
import os
import sys
from pathlib import Path
from typing import Any

from fashion_vgg import __version__, streams
from fashion_vgg.checkpoints import signals
from fashion_vgg.config import targets
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.config.overrides import MULTIRUN, check_folder, split_flags, with_quoted_path
from fashion_vgg.errors import UserError

COMMANDS = {
    "fetch": "download the data set, as train does if it is missing",
    "train": "train a network, or a sweep of networks with -m",
    "test": "loss and accuracy of a trained network on the test set",
    "predict": "name the articles of clothing in pictures",
    "analyze": "show where a trained network is wrong and overconfident, and what its layers respond to",
    "serve": "show the network in a browser",
    "export": "write a trained network as safetensors, for ONNX Runtime, or for torch.export",
    "bench": "measure training on this machine against the book's loop and the hardware's limit",
    "describe": "print what each layer of a network costs, compare networks, draw them",
    "runs": "list the runs, newest first",
    "report": "compare the runs of a sweep: a table, and a page with their curves",
    "completion": "print a script that completes this command line in bash, zsh or fish",
}

SWEEPS = ("train", "describe")
"""The commands that take ``-m``."""


def main() -> None:
    """Run the command that the first argument names."""
    streams.prepare()
    done: list[str] = []
    atexit.register(skip_teardown, done)  # first, to be called last
    for variable in [name for name, value in os.environ.items() if name.startswith("FASHION_VGG_") and not value]:
        del os.environ[variable]  # an empty variable counts as unset, as in a shell's ${name:-default}
    parser = argparse.ArgumentParser(
        prog="fashion-vgg",
        usage="fashion-vgg <command> [overrides]",
        description="VGG on Fashion-MNIST.",
        epilog="\n".join(["commands:", *(f"  {name:<11} {does}" for name, does in COMMANDS.items())])
        + "\n\nfashion-vgg <command> --help lists the overrides or options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fashion-vgg {__version__}")
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    name = parser.parse_args(sys.argv[1:2]).command
    signals.listen()
    with reported_errors(name):
        command = importlib.import_module(f"fashion_vgg.commands.{name}")
        targets.check_config_folders(sys.argv[2:])
        # Hydra reads sys.argv, so the command line is expanded in place.
        sys.argv[1:] = expanded(command, sys.argv[2:])
        command.main()
    done.append(name)


def expanded(command: Any, argv: list[str]) -> list[str]:
    """The arguments of a command; of one that Hydra configures, flags first: Hydra rejects one between overrides."""
    if not inspect.signature(command.main).parameters:  # argparse reads its arguments
        return argv
    check_folder(os.environ.get("FASHION_VGG_ROOT", str(Path.cwd())))
    flags, overrides = split_flags(argv)
    name = command.__name__.rpartition(".")[2]
    if set(MULTIRUN) & set(flags) and name not in SWEEPS:
        raise UserError(f"fashion-vgg {name} runs once: leave out -m.")
    words = [*flags, *map(with_quoted_path, overrides)]
    if hasattr(command, "expand"):
        flags, overrides = split_flags(command.expand(words))
        words = [*flags, *overrides]
    return words


def skip_teardown(done: list[str]) -> None:
    """Exit at once if the command has succeeded: freeing torch's million objects one by one takes over a second."""
    streams.flush()
    if done:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
