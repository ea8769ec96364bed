"""``fashion-vgg report``: compares the runs of a sweep in a table, a CSV file and an HTML page."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from fashion_vgg import atomic
from fashion_vgg.checkpoints import run_folder
from fashion_vgg.errors import UserError
from fashion_vgg.runs.comparison import Comparison, compare
from fashion_vgg.runs.table import wrap

PAGE = "report.html"
DESCRIPTION = "Compare the runs of a sweep. Runs that differ only in their seeds share a row; best first."


def main() -> None:
    parser = argparse.ArgumentParser(prog="fashion-vgg report", description=DESCRIPTION)
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="a sweep, a run, or a folder of several sweeps (default: newest sweep)")
    add("--metric", help="column of metrics.csv (default: val/acc, or test/acc without a validation split)")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--csv", type=Path, metavar="FILE", help="write one row per run, in full precision")
    add("--html", type=Path, metavar="FILE", help=f"write the page to FILE (default: {PAGE} in the folder)")
    args = parser.parse_args()
    comparison = compare(args.folder or newest_sweep(), args.metric)
    table = comparison.table()
    notes = map(wrap, comparison.notes())
    print(*notes, "", table.markdown() if args.markdown else table.text(), sep="\n", flush=True)
    if args.csv:
        atomic.write(args.csv, comparison.to_csv())
    write_page(comparison, args.html)


def newest_sweep() -> Path:
    """The folder of the sweep that started last; without one, a `UserError`."""
    sweeps = run_folder.outputs_folder() / "sweeps"
    folders = [folder for folder in sweeps.glob("*/*") if folder.is_dir()]
    if not folders:
        raise UserError(f"{sweeps}: no sweep found. Name a folder, or list all runs with: fashion-vgg runs")
    return max(folders, key=run_folder.started)


def write_page(comparison: Comparison, file: Path | None) -> None:
    """Write the HTML page, by default into the folder of the comparison; without plotly, print or raise a hint."""
    hint = "The page needs plotly: pip install 'fashion-vgg[report]'"
    if find_spec("plotly"):
        from fashion_vgg.runs.report_page import render

        file = file or comparison.folder / PAGE
        atomic.write(file, render(comparison))
        print(f"\nCharts: {file}", file=sys.stderr)
    elif file:
        raise UserError(hint)
    else:
        print(f"\n{hint}", file=sys.stderr)
