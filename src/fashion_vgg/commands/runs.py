"""``fashion-vgg runs``: lists all runs, newest first."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.config.names import short_names
from fashion_vgg.errors import UserError
from fashion_vgg.runs.comparison import as_overrides, common_settings
from fashion_vgg.runs.run import STATUSES, Run, find_runs
from fashion_vgg.runs.table import Table, duration, wrap

HEADER = ("when", "status", "accuracy", "epochs", "time", "overrides", "folder")
DESCRIPTION = "List the runs in outputs/, newest first."
EPILOG = "accuracy: on the validation split at the best epoch, or on the test set at the last epoch."


def main() -> None:
    parser = argparse.ArgumentParser(prog="fashion-vgg runs", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add(
        "text",
        nargs="*",
        help="list only runs with this override (lr=0.1) or with this text in an override or the folder",
    )
    add("--status", choices=STATUSES, help="list only runs with this status")
    root = run_folder.outputs_folder()
    add("--root", type=Path, metavar="FOLDER", default=root, help="search this folder (default: %(default)s)")
    args = parser.parse_args()
    runs = select_runs(args.root, args.text, args.status)
    common = common_settings(runs) if len(runs) > 1 else {}
    if common:
        print(wrap(f"Common settings: {as_overrides(common)}"), end="\n\n")
    names = short_names({key for run in runs for key in run.settings} - {*common})
    print(Table(HEADER, [_row(run, names) for run in runs]).text())


def select_runs(root: Path, texts: Sequence[str] = (), status: str | None = None) -> list[Run]:
    """The runs in a folder that match all texts and have the status; a `UserError` if there is none."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder. Name one with --root.")
    runs = find_runs(root)
    selected = [run for run in runs if all(_matches(run, text) for text in texts)]
    selected = [run for run in selected if status in (None, run.status)]
    if not selected:
        raise UserError(f"{root}: none of the {len(runs)} runs matches." if runs else f"{root}: contains no run.")
    return selected


def _matches(run: Run, text: str) -> bool:
    """With ``=``, whether the text is an override, whose key may be its last part; else whether it is anywhere."""
    if "=" in text:
        return text in run.folder.parts or any(f".{word.lstrip('+')}".endswith(f".{text}") for word in run.overrides)
    return text in f"{' '.join(run.overrides)} {run.folder}"


def _row(run: Run, names: Mapping[str, str]) -> list[str]:
    """The cells of a run, with the overrides of the keys that have a name."""
    folder, working_directory = run.folder.absolute(), Path.cwd()
    date, time = run_folder.started(folder)
    split = "val" if "val/acc" in run.metrics else "test"
    accuracy = run.metrics.get(f"{split}/acc")
    seconds = run.summary.get("wall_seconds")
    return [
        f"{date} {time[:5].replace('-', ':')}".strip(),
        run.status,
        "" if accuracy is None else f"{accuracy:.4f} {split}",
        str(len(run.rows)),
        "" if seconds is None else duration(seconds),
        as_overrides({names[key]: value for key, value in run.settings.items() if key in names}),
        str(folder.relative_to(working_directory) if folder.is_relative_to(working_directory) else run.folder),
    ]
