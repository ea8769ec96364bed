"""`fashion-vgg report`: folders with known figures, the real command line, a real sweep and a real browser."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.errors import UserError
from fashion_vgg.runs import charts, settings_table
from fashion_vgg.runs.comparison import compare
from fashion_vgg.runs.table import Table
from tests.conftest import Command
from tests.helpers import finish, leave

SWEEP = Path("outputs", "sweeps", "2026-01-02", "10-00-00-abcdef01")
CHROMIUM = "/usr/bin/chromium"

ACCURACIES = {"0.01": [0.81, 0.83, 0.845], "0.1": [0.91, 0.93, 0.92], "1": [0.5]}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three learning rates, one of them with a seed that diverged, and a fourth that never finished."""
    folder = tmp_path / SWEEP
    for lr, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            overrides = ["experiment=speedrun", f"optimizer.lr={lr}", f"seed={seed}"]
            finish(folder / f"lr={lr},seed={seed}", overrides, accuracy, seconds=20.0 + seed)
    diverged = leave(folder / "lr=1,seed=1", ["experiment=speedrun", "optimizer.lr=1", "seed=1"])
    run_folder.write_outcome(diverged, "diverged", "The loss is nan, at step 3.")
    leave(folder / "lr=5,seed=0", ["experiment=speedrun", "optimizer.lr=5", "seed=0"])
    return folder


def shown(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def markdown_rows(text: str) -> list[dict[str, str]]:
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_seeds_are_merged_and_the_best_setting_comes_first(sweep: Path) -> None:
    comparison = compare(sweep)
    rows = shown(settings_table.table(comparison))
    assert [row["optimizer.lr"] for row in rows] == ["0.1", "0.01", "1", "5"]
    assert [row["runs"] for row in rows] == ["3", "3", "2", "1"]
    for row in rows[:2]:
        accuracies = ACCURACIES[row["optimizer.lr"]]
        assert row["test/acc"] == f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f}"
        assert (row["time"], row["images/s"], row["status"]) == ("21.0 s", "21,000", "finished")
    assert (rows[2]["test/acc"], rows[2]["status"]) == ("0.5000", "1 finished, 1 diverged")
    assert (rows[3]["test/acc"], rows[3]["time"], rows[3]["status"]) == ("", "", "unfinished")
    assert settings_table.notes(comparison)[0] == "All with experiment=speedrun."
    assert "test/acc: of the last epoch" in settings_table.notes(comparison)[1]


def test_another_metric_is_compared_a_loss_by_the_least(sweep: Path) -> None:
    rows = shown(settings_table.table(compare(sweep, "test/loss")))
    assert [row["optimizer.lr"] for row in rows] == ["0.1", "0.01", "1", "5"]
    losses = [1 - accuracy for accuracy in ACCURACIES["0.1"]]
    assert rows[0]["test/loss"] == f"{mean(losses):.4f} ± {stdev(losses):.4f}"
    with pytest.raises(UserError, match=r"--metric acc: no run has it\. There are: train/loss, test/loss, test/acc"):
        compare(sweep, "acc")


def test_with_a_validation_split_the_best_epoch_is_compared_and_its_test_shown(tmp_path: Path) -> None:
    for lr, val, test in (("0.1", 0.8, 0.9), ("0.2", 0.85, 0.7)):
        rows = [{"epoch": 1, "train/loss": 1.0, "val/acc": val}, {"epoch": 2, "train/loss": 0.5, "val/acc": 0.1}]
        best = rows[0] | {"test/acc": test}
        folder = tmp_path / f"lr={lr}"
        leave(folder, [f"optimizer.lr={lr}"], rows, final=rows[1], best=best, wall_seconds=4000, images_per_sec=None)
    comparison = compare(tmp_path)
    first, second = shown(settings_table.table(comparison))
    assert (first["val/acc"], first["test/acc"]) == ("0.8500", "0.7000")
    assert (second["val/acc"], second["test/acc"]) == ("0.8000", "0.9000")
    assert (first["time"], first["images/s"]) == ("1 h 07 min", "")
    assert "val/acc and test/acc: of the epoch that is best" in settings_table.notes(comparison)[-1]


def test_keys_that_some_runs_lack_are_empty_and_groups_are_keys(tmp_path: Path) -> None:
    finish(tmp_path / "a", ["model=vgg11", "seed=3", "+trainer.gradient_clip_val=1"], 0.9)
    finish(tmp_path / "b", ["model=vgg5_light", "seed=3", "~callbacks.slow_run_notice"], 0.8)
    comparison = compare(tmp_path)
    keys = ("model", "trainer.gradient_clip_val", "callbacks.slow_run_notice")
    assert comparison.common == {"seed": "3"}
    rows = [tuple(row[key] for key in keys) for row in shown(settings_table.table(comparison))]
    assert rows == [("vgg11", "1", ""), ("vgg5_light", "", "removed")]


def test_the_seed_of_the_data_is_a_seed_and_the_last_override_of_a_key_counts(tmp_path: Path) -> None:
    finish(tmp_path / "a", ["batch_size=1", "batch_size=64", "data.seed=0"], 0.9)
    finish(tmp_path / "b", ["batch_size=64", "data.seed=1"], 0.8)
    [row] = shown(settings_table.table(compare(tmp_path)))
    assert (row["runs"], row["test/acc"]) == ("2", f"{mean([0.9, 0.8]):.4f} ± {stdev([0.9, 0.8]):.4f}")


def test_a_single_run_is_a_row(sweep: Path) -> None:
    comparison = compare(sweep / "lr=0.1,seed=0")
    [row] = shown(settings_table.table(comparison))
    assert (row["runs"], row["test/acc"], row["status"]) == ("1", "0.9100", "finished")
    assert comparison.common == {"experiment": "speedrun", "optimizer.lr": "0.1", "seed": "0"}


def test_a_figure_that_is_no_number_is_left_out_of_the_mean(tmp_path: Path) -> None:
    finish(tmp_path / "a", ["seed=0"], 0.9)
    final = {"epoch": 1, "test/acc": None}
    leave(tmp_path / "b", ["seed=1"], final=final, best=final, wall_seconds=1, images_per_sec=1)
    [row] = shown(settings_table.table(compare(tmp_path)))
    assert row["test/acc"] == "0.9000"


def test_csv_has_every_run_in_full_precision(sweep: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(settings_table.to_csv(compare(sweep)))))
    assert len(rows) == 9
    read = {(row["optimizer.lr"], row["seed"]): row for row in rows}
    for lr, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            row = read[lr, str(seed)]
            assert float(row["test/acc"]) == accuracy
            assert float(row["test/loss"]) == 1 - accuracy
            assert (float(row["wall_seconds"]), float(row["images_per_sec"])) == (20 + seed, 1000 * (20 + seed))
            assert (sweep / row["folder"] / run_folder.SUMMARY).exists()
    assert read["1", "1"]["status"] == "diverged"
    assert read["1", "1"]["error"] == "The loss is nan, at step 3."
    assert (read["5", "0"]["status"], read["5", "0"]["test/acc"]) == ("unfinished", "")


def test_a_wide_table_is_made_to_fit_a_terminal(tmp_path: Path) -> None:
    for index, arch in enumerate(("[[1,16],[1,32],[1,64],[1,128],[1,256],[1,512]]", "[[1,8]]")):
        overrides = [f"model.conv_arch={arch}", f"optimizer.lr=0.{index}", f"classifier.label_smoothing=0.{index}"]
        finish(tmp_path / str(index), overrides, 0.9)
    lines = settings_table.table(compare(tmp_path)).text().splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].split()[:3] == ["conv_arch", "lr", "label_smoothing"]


def test_a_time_is_said_as_people_say_it() -> None:
    said = {0.25: "0.2 s", 59.99: "1 min 00 s", 185: "3 min 05 s", 3599.9: "1 h 00 min", 86_400: "24 h 00 min"}
    assert {seconds: settings_table.duration(seconds) for seconds in said} == said


def test_numbers_end_in_the_same_column(sweep: Path) -> None:
    header, *lines = settings_table.table(compare(sweep)).text().splitlines()
    end = header.index("images/s") + len("images/s")
    assert [line[end - 6 : end] for line in lines[:3]] == ["21,000", "21,000", "20,000"]


def test_the_command_prints_the_newest_sweep_and_writes_its_page(
    fashion_vgg: Command, sweep: Path, tmp_path: Path
) -> None:
    finish(tmp_path / "outputs/sweeps/2026-01-01/23-00-00-ffffffff/old", ["seed=0"], 0.1)
    done = fashion_vgg("report", "--markdown", "--csv", "all.csv", root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "All with experiment=speedrun." in done.stdout
    assert [row["optimizer.lr"] for row in markdown_rows(done.stdout)] == ["0.1", "0.01", "1", "5"]
    assert done.stderr.strip() == f"The curves are in {sweep / 'report.html'}"
    assert (tmp_path / "all.csv").read_text() == settings_table.to_csv(compare(sweep))
    again = fashion_vgg("report", str(sweep), "--html", "page.html", root=tmp_path)
    assert again.stdout.splitlines()[3].split() == ["optimizer.lr", "runs", "test/acc", "time", "images/s", "status"]
    assert (tmp_path / "page.html").exists()


MISTAKES = [
    (["report", "nowhere"], "nowhere: there is no such folder."),
    (["report", "."], ".: there is no run in it."),
    (["report"], "there is no sweep in it. Name a folder"),
]


@pytest.mark.parametrize(("args", "message"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_a_mistake_is_told_in_a_line(fashion_vgg: Command, tmp_path: Path, args: list[str], message: str) -> None:
    done = fashion_vgg(*args, root=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_cannot_be_written_is_named(fashion_vgg: Command, sweep: Path, tmp_path: Path) -> None:
    done = fashion_vgg("report", "--csv", "nowhere/all.csv", root=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "nowhere/all.csv: No such file or directory. Use another file or folder.\n"


@pytest.mark.parametrize(("args", "status"), [([], 0), (["--html", "page.html"], 2)])
def test_without_plotly_the_table_comes_and_a_line_says_what_the_page_takes(
    sweep: Path, args: list[str], status: int
) -> None:
    argv = ["report", str(sweep), *args]
    code = f"import sys; sys.modules['plotly'] = None; sys.argv = {argv!r}\n"
    code += "from fashion_vgg.commands import report\nreport.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=sweep)
    assert done.returncode == status
    assert "0.9200 ± 0.0100" in done.stdout
    assert done.stderr.strip() == "The page with the curves takes plotly: pip install 'fashion-vgg[report]'"
    assert not list(sweep.glob("*.html"))


def test_reading_takes_no_torch_and_no_plotly(sweep: Path) -> None:
    code = (
        "import sys; from fashion_vgg.commands import report, runs; from fashion_vgg.runs import settings_table\n"
        f"settings_table.table(report.compare(report.Path({str(sweep)!r}))); runs.listed(report.Path('.'))\n"
        "print([name for name in ('torch', 'lightning', 'plotly', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=sweep)
    assert done.stdout == "[]\n", done.stderr


def test_parameters_lie_on_an_axis_by_what_they_are() -> None:
    assert charts.scale(["0.01", "0.1", "1"]) == "log"
    assert charts.scale(["1", "2", "10"]) == "linear"
    assert charts.scale(["0", "100"]) == "linear"
    assert charts.scale(["vgg11", "1"]) == charts.scale(["", "1"]) == charts.scale(["nan", "1"]) == "category"


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="the page is looked at in Chromium")
class TestPage:
    def look(self, file: Path) -> tuple[list[str], list[str], list[dict[str, Any]]]:
        """The requests a browser makes for a page, its complaints, and the charts' traces and axes."""
        requests, complaints = [], []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM)
            page: Page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.on("request", lambda request: requests.append(request.url))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
            page.goto(file.as_uri())
            page.wait_for_function("[...document.querySelectorAll('.plotly-graph-div')].every(d => d._fullLayout)")
            page.wait_for_timeout(500)
            page.screenshot(path=file.with_suffix(".png"), full_page=True)
            charts = page.evaluate(
                "[...document.querySelectorAll('.plotly-graph-div')].map(d => ({traces: d.data, x: d.layout.xaxis,"
                " fits: d.querySelector('.main-svg').clientWidth <= d.parentElement.clientWidth + 1,"
                " lines: d.querySelectorAll('.scatterlayer .trace').length}))"
            )
            browser.close()
        return [url for url in requests if not url.startswith(("data:", "blob:"))], complaints, charts

    def test_a_browser_shows_every_run_and_the_swept_parameter(
        self, fashion_vgg: Command, sweep: Path, tmp_path: Path
    ) -> None:
        assert fashion_vgg("report", "--html", "page.html", root=tmp_path).returncode == 0
        file = tmp_path / "page.html"
        requests, complaints, (curves, losses, parallel, scatter) = self.look(file)
        assert requests == [file.as_uri()]
        assert complaints == []
        finished = {f"optimizer.lr={lr} seed={i}" for lr, values in ACCURACIES.items() for i in range(len(values))}
        others = {"optimizer.lr=1 seed=1", "optimizer.lr=5 seed=0"}
        for chart in (curves, losses):
            assert {trace["name"] for trace in chart["traces"]} == finished | others
            assert chart["lines"] == len(finished)
        assert [dimension["label"] for dimension in parallel["traces"][0]["dimensions"]] == ["optimizer.lr", "test/acc"]
        assert scatter["x"]["type"] == "log"
        assert all(chart["fits"] for chart in (curves, losses, parallel, scatter))
        assert file.with_suffix(".png").stat().st_size > 10_000

    def test_text_of_overrides_is_no_markup(self, tmp_path: Path) -> None:
        from fashion_vgg.runs.page import page

        for index, text in enumerate(("<script>throw 1</script>", "</script><b>")):
            finish(tmp_path / "runs" / str(index), [f"model={text}"], 0.9)
        (tmp_path / "page.html").write_text(page(compare(tmp_path / "runs")))
        _, complaints, charts = self.look(tmp_path / "page.html")
        assert complaints == []
        assert len(charts) == 3  # names have no scatter

    def test_runs_without_a_figure_make_a_page_too(self, tmp_path: Path) -> None:
        from fashion_vgg.runs.page import page

        leave(tmp_path / "runs" / "a", ["seed=0"])
        (tmp_path / "page.html").write_text(page(compare(tmp_path / "runs")))
        _, complaints, charts = self.look(tmp_path / "page.html")
        assert (complaints, charts) == ([], [])


def test_a_real_sweep_is_reported(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    few = [*tiny, "data.val_size=1000", "optimizer.lr=0.05,1e30", "seed=0,1"]
    trained = fashion_vgg("train", "-m", *few, root=tmp_path)
    assert "2 jobs of the sweep failed" in trained.stderr
    done = fashion_vgg("report", "--markdown", root=tmp_path)
    assert done.returncode == 0, done.stderr
    summaries = [json.loads(path.read_text())["best"] for path in tmp_path.rglob("summary.json")]
    good, bad = markdown_rows(done.stdout)
    for name in ("val/acc", "test/acc"):
        accuracies = [best[name] for best in summaries]
        assert good[name] == f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f}"
    assert (good["status"], bad["status"]) == ("finished", "diverged")
    assert len(list(tmp_path.rglob("report.html"))) == 1
