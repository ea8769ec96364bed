"""The processes of one training that torchrun, SLURM or Lightning starts."""

import os
import sys
import tempfile
from collections.abc import Sequence

_unused: "list[tempfile.TemporaryDirectory[str]]" = []


def is_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_further_process() -> bool:
    """Whether torchrun or SLURM started this process, and it is not the first one of the training.

    Processes that Lightning starts do not count: Lightning passes them the folder of the first one.
    """
    torchrun = is_torchrun() and os.environ.get("RANK", "0") != "0"
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and os.environ.get("SLURM_PROCID", "0") != "0"
    return torchrun or slurm


def expand(argv: Sequence[str]) -> list[str]:
    """The command line of a further process, which writes no folder of its own and no log; any other's unchanged."""
    if not is_further_process():
        return list(argv)
    words = [*argv, "hydra.output_subdir=null", "hydra/job_logging=disabled"]
    if not any(word.startswith("hydra.run.dir=") for word in argv):
        _unused.append(tempfile.TemporaryDirectory(prefix="fashion-vgg-"))  # deleted when the process ends
        words.append(f"hydra.run.dir={_unused[-1].name}")
    return words


def name_command(command: str) -> None:
    """Put the command's name back into ``sys.argv``, from which Lightning builds the command lines of its processes."""
    if sys.argv[1:2] != [command]:
        sys.argv.insert(1, command)
