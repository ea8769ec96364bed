"""Damaged and hostile files in a run's folder: they are named, and the other runs are read."""

import csv
import io
import itertools
import json
import logging
import logging.config
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fashion_vgg.checkpoints import records, resume, run_folder
from fashion_vgg.commands.runs import select_runs
from fashion_vgg.config import targets
from fashion_vgg.config.app import CONF
from fashion_vgg.errors import UserError
from fashion_vgg.inference import model_card
from fashion_vgg.runs.comparison import compare
from fashion_vgg.runs.report_page import render
from fashion_vgg.sweeps import record, sweep_folder
from tests.conftest import Command, Survived
from tests.faults.conftest import times
from tests.helpers import damage, finish

SECONDS = 60
"""A command that reads a FIFO or an alias bomb takes longer."""
TRAIN = Path("outputs", "train", "2026-01-01")


def damaged(folder: Path, do: Callable[[Path], None]) -> bool:
    """Write a finished run and damage it; False if this process cannot do the damage."""
    finish(folder, ["seed=1", "model=vgg11"], 0.8)
    try:
        do(folder)
    except OSError:
        shutil.rmtree(folder)
        return False
    return True


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, and one more for each damage."""
    root = tmp_path_factory.mktemp("damaged")
    for seed in range(2):
        finish(root / TRAIN / f"10-00-0{seed}-good", [f"seed={seed}", "model=vgg11"], 0.9)
    for number, do in enumerate(damage.damages().values()):
        damaged(root / TRAIN / f"09-00-00-{number:03}", do)
    return root


def test_damaged_runs_are_named_and_the_others_are_listed(
    fashion_vgg: Command, outputs: Path, survived: Survived
) -> None:
    bad = {str(path) for path in (outputs / TRAIN).glob("09-*")}
    assert len(bad) > 75
    listed = fashion_vgg("runs", root=outputs, timeout=SECONDS)
    assert listed.returncode == 0, listed
    rows = listed.stdout.splitlines()[3:]
    assert sorted(Path(row.split()[-1]).name for row in rows) == ["10-00-00-good", "10-00-01-good"], listed
    report = fashion_vgg("report", str(outputs / TRAIN), "--csv", "all.csv", root=outputs, timeout=SECONDS)
    assert report.returncode == 0, report
    assert {row["test/acc"] for row in csv.DictReader((outputs / "all.csv").read_text().splitlines())} == {"0.9"}
    *ignored, empty, charts = report.stderr.splitlines()
    assert (empty, charts) == ("", f"Charts: {outputs / TRAIN / 'report.html'}")
    assert ignored == listed.stderr.splitlines()
    named = [str(folder) for line in ignored for folder in bad if line.startswith(f"Ignored: {folder}/")]
    survived("damaged runs are named and the others are listed", len(bad), len(set(named) & bad))
    assert len(ignored) == len(bad)


def test_a_run_with_a_damaged_record_is_not_resumed(tmp_path: Path, survived: Survived) -> None:
    done = 0
    of_resume = {name: do for name, do in damage.damages().items() if "config" in name or "overrides" in name}
    for content in damage.NO_SETTINGS:
        of_resume[content] = partial(damage.put, name=run_folder.CONFIG, content=content)
    for number, do in enumerate(of_resume.values()):
        folder = tmp_path / str(number)
        if not damaged(folder, do):
            continue
        (folder / "last.ckpt").touch()
        for read in (lambda run: resume.expand([f"resume={run}"]) and records.recorded_config(run), model_card.of):
            with pytest.raises(UserError) as raised:
                read(folder)
            assert str(raised.value).count("\n") == 0
            assert str(folder) in str(raised.value)
        done += 1
    assert done > 25
    survived("a run with a damaged record is not resumed", done, done)


def test_settings_that_describe_no_network_are_named(tmp_path: Path) -> None:
    finish(tmp_path / "run", [], 0.8)
    (tmp_path / "run" / "last.ckpt").touch()
    damage.put(tmp_path / "run", run_folder.CONFIG, "data: {}\nmodel: {num_classes: 10}\ntrainer: {}\n")
    with pytest.raises(UserError, match=r"config\.yaml cannot be read: it has no 'image_size'"):
        model_card.of(tmp_path / "run")


def test_a_fifo_in_place_of_exported_weights_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"weights\.safetensors is not a regular file"):
        model_card.of(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("levels", [300, 3000])
def test_a_recorded_override_that_is_nested_too_deeply_is_refused(
    fashion_vgg: Command, tmp_path: Path, levels: int
) -> None:
    finish(tmp_path / "run", [f"model.conv_arch={'[' * levels}{']' * levels}"], 0.8)
    done = fashion_vgg("train", f"resume={tmp_path}/run", root=tmp_path, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (2, "A value is nested too deeply, or refers to itself.\n")


@pytest.mark.parametrize("kind", ["FIFO as config.yaml", "config.yaml 2", ".hydra/overrides.yaml 7"])
def test_resume_names_the_damaged_record(fashion_vgg: Command, tmp_path: Path, kind: str) -> None:
    assert damaged(tmp_path / "run", damage.damages()[kind])
    (tmp_path / "run" / "last.ckpt").touch()
    done = fashion_vgg("train", f"resume={tmp_path}/run", "trainer=cpu", root=tmp_path, timeout=SECONDS)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done
    name = "overrides.yaml" if "overrides" in kind else "config.yaml"
    assert done.stderr.startswith(f"{tmp_path}/run/")
    assert f"{name} cannot be read: " in done.stderr


def test_resume_auto_names_a_damaged_run_and_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FASHION_VGG_ROOT", str(tmp_path))
    for name in ("09-00-00-good", "10-00-00-bad"):
        finish(tmp_path / TRAIN / name, ["seed=1"], 0.8)
        (tmp_path / TRAIN / name / run_folder.SUMMARY).unlink()
    damage.put(tmp_path / TRAIN / "10-00-00-bad", damage.OVERRIDES, damage.BOMB)
    words = resume.expand(["resume=auto", "seed=1"])
    assert f"hydra.run.dir='{tmp_path / TRAIN}/09-00-00-good'" in words
    assert "10-00-00-bad/.hydra/overrides.yaml cannot be read: " in caplog.text


def alias_chain(levels: int) -> str:
    """YAML of few levels in itself, and of many more with its aliases expanded."""
    lines = ["a0: &a0 [[[[[[[[x]]]]]]]]", *(f"a{i}: &a{i} [[[[[[[[*a{i - 1}]]]]]]]]" for i in range(1, levels))]
    return "\n".join(lines)


HOSTILE_YAML = (damage.BOMB, alias_chain(8), "a: " + "[" * 5000 + "]" * 5000, "a: &a [*a]", "a: {" + "b: {" * 2000)


def test_an_alias_bomb_among_the_users_configs_is_refused(
    fashion_vgg: Command, tmp_path: Path, survived: Survived
) -> None:
    folders = [tmp_path / str(number) for number in range(len(HOSTILE_YAML))]
    for folder, text in zip(folders, HOSTILE_YAML, strict=True):
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "mine.yaml").write_text(text)
        with pytest.raises(UserError, match=r"mine\.yaml cannot be read: with its aliases expanded it has more than"):
            targets.check_config_folders(["-cd", str(folder)])
    (tmp_path / "fifo").mkdir()
    os.mkfifo(tmp_path / "fifo" / "config.yaml")
    (folders[0] / "config.yaml").write_text(damage.BOMB)
    for flag, folder in (("-cp", folders[0]), ("-cd", folders[0]), ("-cp", tmp_path / "fifo")):
        done = fashion_vgg("train", flag, str(folder), "-cn", "config", root=tmp_path, timeout=SECONDS)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done
        assert done.stderr.startswith(f"{folder}/config.yaml cannot be read: "), done
    number = len(HOSTILE_YAML) + 3
    survived("a config that is too large or too deep with its aliases expanded is refused", number, number)


def test_ordinary_anchors_and_aliases_are_allowed(tmp_path: Path) -> None:
    text = "base: &base {lr: 0.1, blocks: [[1, 16], [1, 32]]}\nmodel: {<<: *base, lr: 0.2}\nother: [*base, *base]\n"
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "draft.yaml").write_text("not: [yaml")  # Hydra does not read it
    targets.check_config_folders(["-cp", str(tmp_path)])


NUMBERS = st.floats() | st.integers() | st.sampled_from([10**400, 1e308, -1e308, 1e-320, True, None, "0.5", ""])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5), lambda child: st.lists(child, max_size=3)
)
METRICS = st.dictionaries(st.sampled_from(["epoch", "val/acc", "test/acc", "train/loss", "\x1b"]), NUMBERS)
SUMMARIES = st.fixed_dictionaries(
    {},
    optional={
        **{"final": METRICS | JSON, "best": METRICS | JSON, "wall_seconds": NUMBERS, "images_per_sec": NUMBERS},
        **{"overrides": st.lists(st.text(max_size=5)) | JSON, "epochs": JSON},
    },
).map(lambda changed: damage.summary(**changed))
OUTCOMES = st.fixed_dictionaries(
    {"status": st.sampled_from(["failed", "diverged", "x"]) | JSON, "error": st.text() | JSON}
)
VALUES = st.text(max_size=9) | st.sampled_from(
    ["=1+1", "@SUM(1)", "-1", "-1.5e-3", "1e308", "nan", "\x1b[2J", "‮", "<b>"]
)
KEYS = st.sampled_from(["seed", "model", "optimizer.lr", "data.seed", "+a.b", "~a"])
WORDS = st.lists(st.tuples(KEYS, VALUES).map("=".join), max_size=5).map(json.dumps)
CELLS = st.sampled_from(["epoch", "test/acc", "", "1", "nan", "1e999", "x", '"', "\0", "\x1b", "=1"])
TABLES = st.lists(st.lists(CELLS, max_size=3).map(",".join), max_size=4).map("\n".join)
ANYTHING = st.binary(max_size=50) | st.text(max_size=50) | st.sampled_from([damage.BOMB, "[" * 10_000, "null", "{}"])
CONTENTS: dict[str, st.SearchStrategy[Any]] = {
    run_folder.SUMMARY: SUMMARIES,
    run_folder.OUTCOME: OUTCOMES.map(json.dumps),
    run_folder.METRICS: TABLES,
    damage.OVERRIDES: WORDS,
    run_folder.CONFIG: JSON.map(json.dumps),
}
FILES = st.sampled_from([*CONTENTS]).flatmap(lambda name: st.tuples(st.just(name), CONTENTS[name] | ANYTHING))
FOLDERS = st.lists(FILES, max_size=2).map(dict)
NAMES = st.binary(min_size=1, max_size=40).map(os.fsdecode) | st.text(min_size=1, max_size=40)


def is_a_file_name(name: str) -> bool:
    try:
        return name not in (".", "..") and not {"/", "\0"} & set(name) and os.fsencode(name) != b""
    except UnicodeEncodeError:
        return False


def encoded(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode(errors="replace")


def check_shown(text: str) -> None:
    assert all(line.isprintable() for line in text.split("\n")), text


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_arbitrary_folders_end_no_command(tmp_path: Path, survived: Survived) -> None:
    """Also not the reader of the page, of a spreadsheet and of a terminal."""
    tried: list[str] = []

    @settings(
        max_examples=times(30, 2000),
        deadline=10_000,  # milliseconds
        suppress_health_check=list(HealthCheck),
    )
    @given(NAMES.filter(is_a_file_name), FOLDERS)
    def readable(name: str, files: dict[str, str | bytes]) -> None:
        root = tmp_path / str(len(tried))
        tried.append(name)
        good, bad = root / "good", root / f"x{name}"
        finish(good, ["seed=0"], 0.9)
        finish(bad, ["seed=1"], 0.8)
        for file, content in files.items():
            damage.put(bad, file, encoded(content))
        runs = select_runs(root)
        assert good in [run.folder for run in runs]
        comparison = compare(root)
        table = comparison.table()
        check_shown(table.text() + table.markdown() + "".join(comparison.notes()))
        for cell in itertools.chain(*csv.reader(io.StringIO(comparison.to_csv()))):
            check_shown(cell)
            assert not cell.startswith(("=", "+", "-", "@")) or is_number(cell), cell
        if len(tried) % 10 == 0:
            render(comparison).encode()
        for read in (lambda: resume.expand([f"resume={bad}"]), lambda: records.recorded_config(bad)):
            try:
                read()
            except UserError as error:
                check_shown(str(error))
        shutil.rmtree(root)

    readable()
    survived("arbitrary files in a run's folder end no command", len(tried), len(tried))


ACTING = ["\x1b[2J\x1b]0;title\x07", "a\r\nb", "\u202eabc", "\u200b", "\x9b31m", "\ud800", "a|b\\|c"]
FORMULAS = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-1+cmd", '=HYPERLINK("a")', "\uff1d1+1", "-"]
PLAIN = ["-1.5", "-1", "-2e-05", "0.1", "vgg11"]


def test_what_a_terminal_or_a_spreadsheet_acts_on_is_shown_as_text(
    fashion_vgg: Command, tmp_path: Path, survived: Survived
) -> None:
    values = [*ACTING, *FORMULAS, *PLAIN]
    for number, value in enumerate(values):
        folder = (
            tmp_path / TRAIN / f"10-00-{number:02}-{os.fsdecode(value.encode(errors='replace').replace(b'/', b''))}"
        )
        finish(folder, [f"name={value}"], 0.9)
        (folder / run_folder.OVERRIDES).write_text(json.dumps([f"name={value}", f"seed={number}"]))
    failed = tmp_path / TRAIN / "10-01-00-job"
    finish(failed, ["name=failed"], 0.9)
    damage.fail(failed, json.dumps({"status": "failed", "error": "=1+\x1b[2J\nmore"}))
    listed = fashion_vgg("runs", root=tmp_path)
    report = fashion_vgg("report", str(tmp_path / TRAIN), "--markdown", "--csv", "all.csv", root=tmp_path)
    for done in (listed, report):
        assert done.returncode == 0, done
        check_shown(done.stdout + done.stderr)
    assert len(listed.stdout.splitlines()) == 1 + len(values) + 1
    assert len([line for line in report.stdout.splitlines() if line[:1] == "|"]) == 2 + len(values) + 1
    check_shown((tmp_path / "all.csv").read_bytes().decode())
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    cells = {row["seed"]: row["name"] for row in rows}
    shown = [cells[str(number)] for number in range(len(values))]
    assert [cell for cell in shown if cell.startswith("'")] == [f"'{formula}" for formula in FORMULAS]
    assert shown[-len(PLAIN) :] == PLAIN
    assert shown[0] == r"\x1b[2J\x1b]0;title\x07"
    assert shown[1:5] == [r"a\r\nb", r"\u202eabc", r"\u200b", r"\x9b31m"]
    assert [row["error"] for row in rows if row["error"]] == [r"'=1+\x1b[2J\nmore"]
    page = (tmp_path / TRAIN / "report.html").read_text()
    assert not [text for text in ("\x1b[2J", "\u202e", "\x9b") if text in page.partition("<h1>")[2]]
    survived("what a terminal or a spreadsheet would act on is shown as text", len(values) + 1, len(values) + 1)


@pytest.mark.parametrize("name", ["console", "plain"])
def test_log_lines_are_printable(name: str) -> None:
    node: Any = OmegaConf.to_container(OmegaConf.load(CONF / "hydra" / "job_logging" / f"{name}.yaml"))
    record = logging.LogRecord("run", logging.INFO, "file", 1, "in %s\nnext line", ("\x1b[2J\r\u202e",), None)
    for formatter in node["formatters"].values():
        text = logging.config.DictConfigurator({}).configure_formatter(formatter).format(record)
        assert text.endswith("in \\x1b[2J\\r\\u202e\nnext line")


@pytest.mark.parametrize("content", ['{"a": 1}', "[1]", "null", '["seed=0"', "[" * 100_000, b"\xff"])
def test_a_damaged_record_of_a_sweep_is_refused(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / record.RECORD).write_bytes(encoded(content))
    with pytest.raises(UserError, match=r"sweep\.yaml cannot be read: "):
        sweep_folder.resumed([f"sweep.resume={tmp_path}"])
