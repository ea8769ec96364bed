"""Finds the weights that ``weights=`` names. Imports neither torch nor Lightning."""

from collections.abc import Sequence
from pathlib import Path

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.errors import UserError, printable
from fashion_vgg.runs.run import Run, find_runs

SPEEDRUN = Path(__file__).with_name("speedrun.safetensors")
"""Weights of ``experiment=speedrun`` that are part of the package."""


def find(name: str | None) -> Path:
    """The run's folder or the file that ``weights=name`` means.

    Args:
        name: a path; ``last``, the newest finished run; ``best``, the finished run with the highest accuracy on a
            validation split; ``speedrun``, the weights in the package. None: the newest finished run, or else those
            in the package.

    Raises:
        UserError: there is no such run or path.
    """
    match name:
        case None | "null":
            return next((run.folder for run in _finished()), SPEEDRUN)
        case "speedrun":
            return SPEEDRUN
        case "last":
            return _first(_finished(), "no run is finished: train one with `fashion-vgg train`, or use speedrun")
        case "best":
            # The test set selects nothing: runs without a validation split do not compete.
            scored = [(score, run) for run in _finished() if (score := run.score("val/acc")) is not None]
            ranked = [run for _, run in sorted(scored, key=lambda pair: -pair[0])]
            return _first(ranked, "no finished run has a validation split: train with data.val_size=5000, or use last")
        case _:
            path = Path(name).expanduser().absolute()
            if not path.exists():
                words = "Use a path, or one of last, best, speedrun."
                raise UserError(f"weights={name}: no such folder or file. {words}")
            if path.suffix in (".onnx", ".pt2"):
                remedy = "use the run's folder, or a safetensors file of `fashion-vgg export`"
                raise UserError(f"weights={name} is for other programs: {remedy}.")
            return path


def shown(path: Path) -> str:
    """The path of weights, or the name of those in the package."""
    return "speedrun (in the package)" if path == SPEEDRUN else printable(str(path))


def _finished() -> list[Run]:
    """The finished runs in the outputs folder, newest first, without those of a ``debug`` config."""
    root = run_folder.outputs_folder()
    return (
        [run for run in find_runs(root) if run.status == "finished" and "debug" not in run.settings]
        if root.is_dir()
        else []
    )


def _first(runs: Sequence[Run], problem: str) -> Path:
    if not runs:
        raise UserError(f"{run_folder.outputs_folder()}: {problem}.")
    return runs[0].folder.absolute()
