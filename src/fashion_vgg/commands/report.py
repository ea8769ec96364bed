"""``fashion-vgg report``: a sweep's settings side by side, the best first, as a table, a CSV file and a page."""

import argparse
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

from fashion_vgg import atomic
from fashion_vgg.checkpoints import run_folder
from fashion_vgg.errors import UserError
from fashion_vgg.runs import mistakes, settings_table
from fashion_vgg.runs.comparison import Comparison, compare
from fashion_vgg.runs.table import WIDTH

PAGE = "report.html"


def main() -> None:
    options = parser().parse_args()
    with mistakes.told():
        comparison = compare(options.folder or newest_sweep(), options.metric)
        table = settings_table.table(comparison)
        wrapped = (textwrap.fill(note, WIDTH, break_on_hyphens=False) for note in settings_table.notes(comparison))
        print(*wrapped, "", table.markdown() if options.markdown else table.text(), sep="\n", flush=True)
        if options.csv:
            atomic.write(options.csv, settings_table.to_csv(comparison))
        write_page(comparison, options.html)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="fashion-vgg report",
        description="Compare the runs of a sweep: a row for each setting, its seeds merged, the best first.",
    )
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="of a sweep, of a run or of several (default: the newest sweep)")
    add("--metric", help="the column of metrics.csv to compare (default: val/acc with a validation split, or test/acc)")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--csv", type=Path, metavar="FILE", help="write a row for each run, in full precision")
    add("--html", type=Path, metavar="FILE", help=f"where to write the page (default: {PAGE} in the folder)")
    return parser


def newest_sweep() -> Path:
    """The sweep whose folder's name is of the latest date and time.

    Raises:
        UserError: there is none.
    """
    sweeps = run_folder.outputs_folder() / "sweeps"
    folders = [folder for folder in sweeps.glob("*/*") if folder.is_dir()]
    if not folders:
        raise UserError(f"{sweeps}: there is no sweep in it. Name a folder; fashion-vgg runs lists them.")
    return max(folders)


def write_page(comparison: Comparison, file: Path | None) -> None:
    """Write the page, and say where.

    Raises:
        UserError: it was asked for, and what it takes is not installed.
    """
    if find_spec("plotly") is None:
        hint = "The page with the curves takes plotly: pip install 'fashion-vgg[report]'"
        if file:
            raise UserError(hint)
        print(f"\n{hint}", file=sys.stderr)
        return
    from fashion_vgg.runs.page import page

    file = file or comparison.folder / PAGE
    atomic.write(file, page(comparison))
    print(f"\nThe curves are in {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
