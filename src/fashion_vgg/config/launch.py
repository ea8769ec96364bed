"""Processes of one training that torchrun or SLURM starts, on one machine or several."""

import os
import tempfile
from collections.abc import Sequence

_unused: "list[tempfile.TemporaryDirectory[str]]" = []


def further() -> bool:
    """Whether this process is one of several that were started side by side, and not the first of them.

    Those that Lightning starts itself do not count: it gives them the first one's folder.
    """
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and os.environ.get("SLURM_PROCID", "0") != "0"
    return torchrun or slurm


def arguments(argv: Sequence[str]) -> list[str]:
    """A command line under which a further process leaves no folder beside the first one's, and logs nothing twice."""
    if not further():
        return list(argv)
    words = [*argv, "hydra.output_subdir=null", "hydra/job_logging=disabled"]
    if not any(word.startswith("hydra.run.dir=") for word in argv):
        _unused.append(tempfile.TemporaryDirectory(prefix="fashion-vgg-"))  # gone when the process ends
        words.append(f"hydra.run.dir={_unused[-1].name}")
    return words
