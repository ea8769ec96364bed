"""``fashion-vgg runs``: every run there is, the newest first."""

import argparse
import re
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.errors import UserError
from fashion_vgg.runs import mistakes
from fashion_vgg.runs.comparison import kept, shared, values, words
from fashion_vgg.runs.run import Run, find_runs
from fashion_vgg.runs.settings_table import duration
from fashion_vgg.runs.table import WIDTH, Table

STATUSES = ("finished", "running", "unfinished", "diverged", "pruned", "failed")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fashion-vgg runs",
        description="List the runs under outputs/, the newest first.",
        epilog="The accuracy is that on the validation split of the best epoch, or without a split that on the test "
        "set after the last epoch.",
    )
    parser.add_argument("words", nargs="*", help="list those alone whose overrides or folder contain all of these")
    parser.add_argument("--status", choices=STATUSES, help="list those of this status alone")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        default=run_folder.outputs_folder(),
        help="where to look (default: %(default)s)",
    )
    options = parser.parse_args()
    with mistakes.told():
        found = listed(options.root, options.words, options.status)
        common = shared(found) if len(found) > 1 else {}
        if common:
            print(textwrap.fill(f"All with {words(common)}.", WIDTH, break_on_hyphens=False), end="\n\n")
        print(table(found, but=common).text())


def listed(root: Path, having: Sequence[str] = (), status: str | None = None) -> list[Run]:
    """The runs below a folder whose overrides or folder contain every word, and that are of a status.

    Raises:
        UserError: there is no such folder, or no such run.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder. Name one with --root.")
    every = find_runs(root)
    found = [
        run
        for run in every
        if all(word in f"{' '.join(run.overrides)} {run.folder}" for word in having) and status in (None, run.status)
    ]
    if not found:
        raise UserError(f"{root}: none of its {len(every)} runs is so." if every else f"{root}: there is no run in it.")
    return found


def table(found: Sequence[Run], but: Collection[str] = ()) -> Table:
    """A row for each run, its overrides ``but`` those of some keys, its folder as it can be typed from here."""
    header = ["when", "status", "accuracy", "epochs", "time", "overrides", "folder"]
    return Table(header, [_row(run, but) for run in found])


def _row(run: Run, but: Collection[str]) -> list[str]:
    when = re.findall(r"(\d{4}-\d\d-\d\d)/(\d\d)-(\d\d)-\d\d", run.folder.absolute().as_posix())
    name = "val/acc" if "val/acc" in kept(run) else "test/acc"
    accuracy = kept(run).get(name)
    seconds = run.summary.get("wall_seconds")
    return [
        "{} {}:{}".format(*when[-1]) if when else "",
        run.status,
        "" if accuracy is None else f"{accuracy:.4f} {name.partition('/')[0]}",
        str(len(run.rows)),
        "" if seconds is None else duration(seconds),
        words({key: value for key, value in values(run).items() if key not in but}),
        str(_from_here(run.folder)),
    ]


def _from_here(folder: Path) -> Path:
    here = Path.cwd()
    return folder.absolute().relative_to(here) if folder.absolute().is_relative_to(here) else folder


if __name__ == "__main__":
    main()
