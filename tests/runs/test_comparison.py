"""Comparisons of runs with known metrics: as a table, and as CSV."""

import csv
import io
from pathlib import Path

import pytest

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.errors import UserError
from fashion_vgg.runs.comparison import Comparison, compare
from fashion_vgg.runs.table import duration
from tests.helpers import finish, leave
from tests.runs.conftest import ACCURACIES, BEST_FIRST, mean_and_deviation


def rows_of(comparison: Comparison) -> list[dict[str, str]]:
    table = comparison.table()
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def test_seeds_share_a_row_and_the_best_settings_are_first(sweep: Path) -> None:
    comparison = compare(sweep)
    rows = rows_of(comparison)
    assert [row["lr"] for row in rows] == BEST_FIRST
    assert [row["runs"] for row in rows] == ["3", "3", "2", "1"]
    for row in rows[:2]:
        assert row["test/acc"] == mean_and_deviation(ACCURACIES[row["lr"]])
        assert (row["time"], row["images/s"], row["status"]) == ("21.0 s", "21,000", "finished")
    assert (rows[2]["test/acc"], rows[2]["status"]) == ("0.5000", "1 finished, 1 diverged")
    assert (rows[3]["test/acc"], rows[3]["time"], rows[3]["status"]) == ("", "", "unfinished")
    assert comparison.notes()[0] == "Common settings: experiment=speedrun"
    assert comparison.notes()[1].startswith("test/acc of the last epoch: mean")


def test_a_loss_is_ranked_lowest_first(sweep: Path) -> None:
    rows = rows_of(compare(sweep, "test/loss"))
    assert [row["lr"] for row in rows] == BEST_FIRST
    assert rows[0]["test/loss"] == mean_and_deviation([1 - accuracy for accuracy in ACCURACIES["0.1"]])


def test_an_unknown_metric_is_an_error_that_lists_the_metrics(sweep: Path) -> None:
    with pytest.raises(UserError, match=r"--metric acc: no run logged it\. Available: train/loss, test/loss, test/acc"):
        compare(sweep, "acc")


def test_with_a_validation_split_the_best_epoch_is_compared(tmp_path: Path) -> None:
    for lr, val, test in (("0.1", 0.8, 0.9), ("0.2", 0.85, 0.7)):
        rows = [{"epoch": 1, "train/loss": 1.0, "val/acc": val}, {"epoch": 2, "train/loss": 0.5, "val/acc": 0.1}]
        best = rows[0] | {"test/acc": test}
        folder = tmp_path / f"lr={lr}"
        leave(folder, [f"optimizer.lr={lr}"], rows, final=rows[1], best=best, wall_seconds=4000, images_per_sec=None)
    comparison = compare(tmp_path)
    first, second = rows_of(comparison)
    assert (first["val/acc"], first["test/acc"]) == ("0.8500", "0.7000")
    assert (second["val/acc"], second["test/acc"]) == ("0.8000", "0.9000")
    assert (first["time"], first["images/s"]) == ("1 h 07 min", "")
    assert comparison.notes() == ["val/acc and test/acc of the epoch that is best on the validation split."]
    finish(tmp_path / "without", ["optimizer.lr=0.3"], 0.9)
    assert compare(tmp_path).notes() == [
        "test/acc of the last epoch or, in runs with a validation split, of the epoch that is best on it."
    ]


def test_a_setting_that_a_run_lacks_is_an_empty_cell(tmp_path: Path) -> None:
    finish(tmp_path / "a", ["model=vgg11", "seed=3", "+trainer.gradient_clip_val=1"], 0.9)
    finish(tmp_path / "b", ["model=vgg5_light", "seed=3", "~callbacks.slow_run_notice"], 0.8)
    comparison = compare(tmp_path)
    assert comparison.common == {"seed": "3"}
    keys = ("model", "gradient_clip_val", "slow_run_notice")
    rows = [tuple(row[key] for key in keys) for row in rows_of(comparison)]
    assert rows == [("vgg11", "1", ""), ("vgg5_light", "", "removed")]


def test_data_seed_is_a_seed_and_the_last_override_of_a_key_counts(tmp_path: Path) -> None:
    finish(tmp_path / "a", ["batch_size=1", "batch_size=64", "data.seed=0"], 0.9)
    finish(tmp_path / "b", ["batch_size=64", "data.seed=1"], 0.8)
    [row] = rows_of(compare(tmp_path))
    assert (row["runs"], row["test/acc"]) == ("2", mean_and_deviation([0.9, 0.8]))


def test_a_single_run_is_one_row(sweep: Path) -> None:
    comparison = compare(sweep / "lr=0.1,seed=0")
    [row] = rows_of(comparison)
    assert (row["runs"], row["test/acc"], row["status"]) == ("1", "0.9100", "finished")
    assert comparison.common == {"experiment": "speedrun", "optimizer.lr": "0.1", "seed": "0"}


def test_nan_is_left_out_of_the_mean(tmp_path: Path) -> None:
    finish(tmp_path / "a", ["seed=0"], 0.9)
    final = {"epoch": 1, "test/acc": None}  # summary.json has null for NaN
    leave(tmp_path / "b", ["seed=1"], final=final, best=final, wall_seconds=1, images_per_sec=1)
    [row] = rows_of(compare(tmp_path))
    assert row["test/acc"] == "0.9000"


def test_csv_contains_every_run_in_full_precision(sweep: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(compare(sweep).to_csv())))
    assert len(rows) == 9
    by_run = {(row["optimizer.lr"], row["seed"]): row for row in rows}
    for lr, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            row = by_run[lr, str(seed)]
            assert (float(row["test/acc"]), float(row["test/loss"])) == (accuracy, 1 - accuracy)
            assert (float(row["wall_seconds"]), float(row["images_per_sec"])) == (20 + seed, 1000 * (20 + seed))
            assert (sweep / row["folder"] / run_folder.SUMMARY).exists()
    assert (by_run["1", "1"]["status"], by_run["1", "1"]["error"]) == ("diverged", "The loss is nan, at step 3.")
    assert (by_run["5", "0"]["status"], by_run["5", "0"]["test/acc"]) == ("unfinished", "")


def test_a_wide_table_fits_a_terminal(tmp_path: Path) -> None:
    for index, arch in enumerate(("[[1,16],[1,32],[1,64],[1,128],[1,256],[1,512]]", "[[1,8]]")):
        overrides = [f"model.conv_arch={arch}", f"optimizer.lr=0.{index}", f"classifier.label_smoothing=0.{index}"]
        finish(tmp_path / str(index), overrides, 0.9)
    lines = compare(tmp_path).table().text().splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].split()[:3] == ["conv_arch", "lr", "label_smoothing"]


def test_numbers_are_right_aligned(sweep: Path) -> None:
    header, *lines = compare(sweep).table().text().splitlines()
    end = header.index("images/s") + len("images/s")
    assert [line[end - 6 : end] for line in lines[:3]] == ["21,000", "21,000", "20,000"]


def test_durations_have_units() -> None:
    expected = {0.25: "0.2 s", 59.99: "1 min 00 s", 185: "3 min 05 s", 3599.9: "1 h 00 min", 86_400: "24 h 00 min"}
    assert {seconds: duration(seconds) for seconds in expected} == expected
