"""The processes of one training that torchrun, SLURM or Lightning starts."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence

from fashion_vgg.errors import UserError


def is_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def has_slurm_tasks() -> bool:
    """Whether SLURM started this process as one of several tasks."""
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_nonzero_rank() -> bool:
    """Whether torchrun or SLURM started this process with another rank than 0.

    Processes that Lightning starts do not count: Lightning passes them the folder of rank 0.
    """
    torchrun = is_torchrun() and os.environ.get("RANK", "0") != "0"
    return torchrun or (has_slurm_tasks() and os.environ.get("SLURM_PROCID", "0") != "0")


def is_rank_zero() -> bool:
    """Whether this is the only process of a training, or rank 0 of several, whoever started them."""
    return not is_nonzero_rank() and os.environ.get("LOCAL_RANK", "0") == "0"


def command_line(words: str) -> str:
    """``fashion-vgg <words>``, started in several processes as this command was, as far as the environment shows."""
    if is_torchrun():
        if os.environ.get("GROUP_WORLD_SIZE") == "1":
            return f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} -m fashion_vgg {words}"
        return f"fashion-vgg {words} (by torchrun on each machine, as before)"
    return f"fashion-vgg {words}{' (by srun, as before)' if has_slurm_tasks() else ''}"


def nonzero_rank_overrides() -> list[str]:
    """The overrides of a nonzero rank, which writes neither Hydra's record nor a log; none for rank 0."""
    return ["hydra.output_subdir=null", "hydra/job_logging=disabled"] if is_nonzero_rank() else []


def check_tasks(devices: int | str | Sequence[int], nodes: int) -> None:
    """Raise UserError if SLURM has started another number of tasks than the training has processes."""
    # In an interactive allocation, Lightning starts the processes.
    if "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return
    tasks = int(os.environ["SLURM_NTASKS"])
    a_node = tasks // nodes if devices == "auto" else devices if isinstance(devices, int) else len(devices)
    if tasks == a_node * nodes and (tasks == 1 or "SLURM_NTASKS_PER_NODE" in os.environ):
        return
    if is_nonzero_rank():
        sys.exit(UserError.status)  # rank 0 reports it
    raise UserError(
        f"SLURM has started {tasks} task{'s'[: tasks > 1]} for a training of {a_node * nodes}: use srun "
        f"--nodes={nodes} --ntasks-per-node={a_node}, or in a sweep hydra.launcher.nodes and tasks_per_node."
    )


def hide_cpp_warnings() -> None:
    """Hide the warnings of torch's C++ code, which reads this when it is imported.

    With ``find_unused_parameters``, DDP advises in each process to turn it off. Without it, DDP divides the gradients
    into other buckets after the first step, so that a resumed training of more than two processes adds them in another
    order.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def expand(argv: Sequence[str]) -> list[str]:
    """The command line of a nonzero rank, which has a folder of its own; any other's unchanged."""
    if not is_nonzero_rank():
        return list(argv)
    words = [*argv, *nonzero_rank_overrides()]
    if not any(word.startswith("hydra.run.dir=") for word in argv):
        unused = tempfile.mkdtemp(prefix="fashion-vgg-")
        atexit.register(shutil.rmtree, unused, ignore_errors=True)
        words.append(f"hydra.run.dir={unused}")
    return words


def name_command(command: str) -> None:
    """Put the command's name back into ``sys.argv``, from which Lightning builds the command lines of its processes."""
    if sys.argv[1:2] != [command]:
        sys.argv.insert(1, command)
