"""`fashion-vgg report`, through the real command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_vgg.runs.comparison import compare
from tests.conftest import Command
from tests.helpers import finish
from tests.runs.conftest import BEST_FIRST, markdown_rows, mean_and_deviation


@pytest.mark.long
def test_the_command_reports_the_newest_sweep(fashion_vgg: Command, sweep: Path, tmp_path: Path) -> None:
    finish(tmp_path / "outputs/sweeps/2026-01-01/23-00-00-ffffffff/old", ["seed=0"], 0.1)
    done = fashion_vgg("report", "--markdown", "--csv", "all.csv", root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Common settings: experiment=speedrun\n" in done.stdout
    assert [row["lr"] for row in markdown_rows(done.stdout)] == BEST_FIRST
    assert done.stderr.strip() == f"Charts: {sweep / 'report.html'}"
    assert (sweep / "report.html").exists()
    assert (tmp_path / "all.csv").read_text() == compare(sweep).to_csv()


def test_the_command_reports_a_named_folder(fashion_vgg: Command, sweep: Path, tmp_path: Path) -> None:
    done = fashion_vgg("report", str(sweep), "--html", "page.html", root=tmp_path)
    assert done.stdout.splitlines()[3].split() == ["lr", "runs", "test/acc", "time", "images/s", "status"]
    assert (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "nowhere: no such folder."),
        (["."], ".: the folder contains no run."),
        ([], "outputs/sweeps: no sweep found."),
    ],
)
def test_without_runs_the_command_prints_one_line(
    fashion_vgg: Command, tmp_path: Path, args: list[str], message: str
) -> None:
    done = fashion_vgg("report", *args, root=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unwritable_file_is_named(fashion_vgg: Command, sweep: Path, tmp_path: Path) -> None:
    done = fashion_vgg("report", "--csv", "nowhere/all.csv", root=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "nowhere/all.csv: No such file or directory. Use another file or folder.\n"


@pytest.mark.parametrize(("args", "status"), [([], 0), (["--html", "page.html"], 2)])
def test_without_plotly_the_table_is_printed_and_a_hint(sweep: Path, args: list[str], status: int) -> None:
    argv = ["fashion-vgg", "report", str(sweep), *args]
    code = f"import sys; sys.modules['plotly'] = None; sys.argv = {argv!r}\n"
    code += "from fashion_vgg.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=sweep)
    assert done.returncode == status
    assert "0.9200 ± 0.0100" in done.stdout
    assert done.stderr.strip() == "The page needs plotly: pip install 'fashion-vgg[report]'"
    assert not list(sweep.glob("*.html"))


def test_the_tables_import_neither_torch_nor_plotly_nor_hydra(sweep: Path) -> None:
    code = (
        "import sys; from fashion_vgg.commands import report, runs\n"
        f"report.compare(report.Path({str(sweep)!r})).table(); runs.select_runs(report.Path('.'))\n"
        "print([name for name in ('torch', 'lightning', 'plotly', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=sweep)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.thorough
def test_a_real_sweep_is_reported(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    overrides = [*tiny, "trainer.max_epochs=1", "data.val_size=1000", "optimizer.lr=0.05,1e30", "seed=0,1"]
    trained = fashion_vgg("train", "-m", *overrides, root=tmp_path)
    assert "2 jobs of the sweep failed" in trained.stderr
    done = fashion_vgg("report", "--markdown", root=tmp_path)
    assert done.returncode == 0, done.stderr
    best = [json.loads(path.read_text())["best"] for path in tmp_path.rglob("summary.json")]
    good, bad = markdown_rows(done.stdout)
    for name in ("val/acc", "test/acc"):
        assert good[name] == mean_and_deviation([metrics[name] for metrics in best])
    assert (good["status"], bad["status"]) == ("finished", "diverged")
    assert len(list(tmp_path.rglob("report.html"))) == 1
