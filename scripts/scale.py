"""Measure sweeps of many jobs: what starting them costs, and what reading their runs costs, by the number of jobs.

    python scripts/scale.py [--jobs 10 100 1000] [--launchers joblib ray] [--folder outputs/scale]

A job is a stub of a training, which writes into its folder what a training of ten epochs writes, with a checkpoint of a
megabyte. Prints a table; a row that grows faster than the number of jobs shows something to mend. Needs the extras
joblib, ray and report.
"""

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch.utils.tensorboard import SummaryWriter

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.commands.train import expand
from fashion_vgg.config.app import CONF
from fashion_vgg.runs import summary
from fashion_vgg.sweeps import multirun
from fashion_vgg.training import tensorboard

EPOCHS = 10


@multirun.report_failures()
@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def sweep(cfg: DictConfig) -> float | None:
    """A sweep of stubs, started by `measure` in a process of its own."""
    return multirun.run_job(cfg, train)


def train(cfg: DictConfig) -> None:
    """Write the files of a training."""
    folder, overrides = Path(cfg.output_dir), list(HydraConfig.get().overrides.task)
    with run_folder.lock(folder):
        run_folder.record(folder, cfg, overrides)
        rows = [
            {"epoch": e, "train/loss": 1 / e, "test/acc": 1 - 0.3 / e, "lr": cfg.optimizer.lr}
            for e in range(1, EPOCHS + 1)
        ]
        with SummaryWriter(folder) as writer:
            for row in rows:
                for name, value in row.items():
                    writer.add_scalar(tensorboard.tag(name), value, row["epoch"])
        table = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (folder / run_folder.METRICS).write_text("\n".join(table) + "\n")
        torch.save({"weights": torch.zeros(250_000)}, folder / "last.ckpt")
        content = summary.summarize(rows, {}, 1.0, torch.device("cpu"), 1, overrides)
        summary.write(folder / run_folder.SUMMARY, content)


def main() -> None:
    """Print a row for each measurement, with a column for each number of jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--launchers", nargs="+", default=["joblib", "ray"])
    parser.add_argument("--folder", type=Path, default=Path("outputs/scale"))
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    rows: dict[str, list[str]] = {}
    for number in args.jobs:
        for what, result in measurements(number, args.launchers, args.folder.absolute() / str(number)):
            rows.setdefault(what, []).append(result)
            print(f"{number:,} jobs: {what}: {result}", file=sys.stderr)
    print("\n".join(table(args.jobs, rows)))


def table(numbers: Sequence[int], rows: dict[str, list[str]]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield f"| jobs | {' | '.join(f'{number:,}' for number in numbers)} |"
    yield f"| --- |{' --- |' * len(numbers)}"
    for what, results in rows.items():
        yield f"| {what} | {' | '.join(results)} |"


def measurements(number: int, launchers: Sequence[str], folder: Path) -> Iterator[tuple[str, str]]:
    """What was measured, and the result."""
    for launcher in launchers:
        sweep_folder = folder / launcher / "outputs" / "sweeps" / "2000-01-01" / "00-00-00"
        words = [f"optimizer.lr=range(1,{number + 1})", f"hydra/launcher={launcher}", f"hydra.sweep.dir={sweep_folder}"]
        yield f"sweep by {launcher}", measured([__file__, "--sweep", "-m", *words], folder)
        check(len([*sweep_folder.glob("*/summary.json")]) == number, f"{sweep_folder} has unfinished jobs.")
    command = ["-m", "fashion_vgg"]
    yield "`runs`", measured([*command, "runs", f"--root={sweep_folder}"], folder)
    yield "`report` with its page", measured([*command, "report", str(sweep_folder)], folder)
    page = sweep_folder / "report.html"
    yield "size of the page", f"{page.stat().st_size / 1e6:.1f} MB"
    if chromium := shutil.which("chromium"):
        yield "page in Chromium", opened(chromium, page)
    yield "TensorBoard, until it has all runs", served(sweep_folder, number)


def measured(arguments: Sequence[str], folder: Path) -> str:
    """Run Python to its end; its time, and the most memory that the process itself had."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
        began, memory = time.monotonic(), 0.0
        while process.poll() is None:
            memory = max(memory, peak_memory(process.pid))
            time.sleep(0.02)
    if process.returncode:
        sys.exit((folder / "log.txt").read_text(errors="replace")[-2000:])
    return f"{time.monotonic() - began:.1f} s, {memory:.2f} GB"


def peak_memory(pid: int) -> float:
    """The most memory that a process has had so far, in GB."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc", str(pid), "status").read_text()):
            return int(found[1]) * 1024 / 1e9
    return 0.0


def opened(chromium: str, page: Path) -> str:
    """The time until a browser without a window has drawn a page."""
    line = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    began = time.monotonic()
    done = subprocess.run(line, capture_output=True, check=True)
    check(b"<svg" in done.stdout, f"{page} has no charts.")
    return f"{time.monotonic() - began:.1f} s"


def served(folder: Path, number: int) -> str:
    """The time until TensorBoard has read all runs, and its memory."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    line = [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", f"--port={port}", "--load_fast=false"]
    with ended(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)) as server:
        began = time.monotonic()
        while count(f"http://127.0.0.1:{port}/data/plugin/scalars/tags") < number:
            check(server.poll() is None, "TensorBoard did not start.")
            time.sleep(0.2)
        return f"{time.monotonic() - began:.1f} s, {peak_memory(server.pid):.2f} GB"


def count(address: str) -> int:
    """The runs that TensorBoard has scalars of."""
    with suppress(OSError), urllib.request.urlopen(address) as answer:  # noqa: S310 # of this machine
        return len(json.load(answer))
    return 0


def check(holds: bool, message: str) -> None:
    """End the program with a message unless a condition holds."""
    if not holds:
        sys.exit(message)


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """End a process at the end of the block."""
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    if "--sweep" in sys.argv:
        sys.argv.remove("--sweep")
        sys.argv[1:] = expand(sys.argv[1:])
        sweep()
    else:
        main()
