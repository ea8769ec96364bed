"""``fashion-vgg <command> [hydra overrides]``, and the same as ``python -m fashion_vgg``."""

import argparse
import runpy
import sys

from fashion_vgg import __version__

COMMANDS = {
    "fetch": "get the data set now; train does it by itself",
    "train": "train a network, or several with -m",
    "test": "score a run's weights on the test set",
    "export": "write a run's weights as safetensors, with a checksum",
    "bench": "measure training on this machine against the seed's loop and the hardware's limit",
    "describe": "print what each part of a network costs, alone or beside others, and draw it",
    "runs": "list the runs, newest first",
    "report": "compare the runs of a sweep: a table, and a page with their curves",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fashion-vgg",
        usage="fashion-vgg <command> [overrides]",
        description="VGG on Fashion-MNIST.",
        epilog="\n".join(["commands:", *(f"  {name:<10} {does}" for name, does in COMMANDS.items())])
        + "\n\nfashion-vgg <command> --help lists the overrides or options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fashion-vgg {__version__}")
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    command = parser.parse_args(sys.argv[1:2]).command
    # As `python -m fashion_vgg.commands.<command>`: so Lightning starts a training's further processes.
    sys.argv = [sys.argv[0], *sys.argv[2:]]
    runpy.run_module(f"fashion_vgg.commands.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
