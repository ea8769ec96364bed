"""The loggers beside TensorBoard, through the command line: CSV and MLflow store the values of ``metrics.csv``."""

import csv
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import Command
from tests.helpers import only

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:The ``noload``")]  # MLflow's own use of SQLAlchemy


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.thorough
def test_many_loggers_store_the_metrics_of_every_epoch(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    words = ["logger=many", "logger.wandb.offline=true", "tags=[a,b]", "name=baseline"]
    done = fashion_vgg("train", *tiny, *words, root=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only(tmp_path, "outputs/train/*/*")
    expected = rows(run / "metrics.csv")
    assert len(expected) == 2
    assert_csv_has(run / "csv/version_0/metrics.csv", expected)
    assert_mlflow_has(f"sqlite:///{tmp_path}/outputs/mlflow.db", run.name, expected)
    content = only(run, "wandb/offline-run-*/run-*.wandb").read_bytes()
    assert run.name.encode() in content
    assert all(name.encode() in content for name in ("train/loss", "test/acc", "images_per_sec"))


def assert_csv_has(path: Path, expected: list[dict[str, str]]) -> None:
    """Every value at its step; the speed is in a row of its own."""

    def values(table: list[dict[str, str]], step: str) -> dict[tuple[str, str], float]:
        cells = ((row[step], name, value) for row in table for name, value in row.items() if name != step)
        return {(number, name): float(value) for number, name, value in cells if value}

    assert values(rows(path), "step") == pytest.approx(values(expected, "epoch"))


def assert_mlflow_has(uri: str, name: str, expected: list[dict[str, str]]) -> None:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("fashion-vgg")
    assert experiment
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["tags"]) == (name, "FINISHED", "a,b")
    assert run.data.params["optimizer/lr"] == "0.05"
    for metric in ("train/loss", "test/acc", "lr"):
        history = client.get_metric_history(run.info.run_id, metric)
        assert [point.step for point in history] == [1, 2]
        assert [point.value for point in history] == pytest.approx([float(row[metric]) for row in expected])


@pytest.mark.thorough
def test_parallel_jobs_share_mlflows_database(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    at_once = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]
    done = fashion_vgg("train", "-m", *tiny, "logger=mlflow", "seed=0,1,2", *at_once, root=tmp_path)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("fashion-vgg")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    assert {(run.info.run_name, run.info.status) for run in runs} == {(f"seed={n}", "FINISHED") for n in range(3)}


@pytest.mark.thorough
@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_missing_extra_is_a_line(fashion_vgg: Command, tiny: list[str], tmp_path: Path, logger: str) -> None:
    program = (
        "import importlib.metadata as m, sys\n"
        f"sys.modules['{logger}'] = None\n"
        "found = m.distribution\n"
        "def distribution(name):\n"
        f"    if name.startswith('{logger}'): raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.distribution = distribution\n"
        "from fashion_vgg.__main__ import main; main()"
    )
    process = fashion_vgg.start("train", *tiny, f"logger={logger}", root=tmp_path, program=["-c", program], fork=False)
    done = process.result()
    assert (done.returncode, done.stderr) == (2, f"{logger} is not installed: pip install 'fashion-vgg[{logger}]'.\n")


def test_without_loggers_and_callbacks_the_metrics_are_written(
    fashion_vgg: Command, tiny_with_plots: list[str], tmp_path: Path
) -> None:
    done = fashion_vgg("train", *tiny_with_plots, "logger=none", "callbacks=none", root=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    run = only(tmp_path, "outputs/train/*/*")
    assert len(rows(run / "metrics.csv")) == 2
    assert not list(run.glob("events*"))
    assert not list(run.glob("*.png"))
