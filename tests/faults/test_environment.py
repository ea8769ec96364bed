"""Closed streams, limits of the operating system, folders without permission: a line and a status, nothing left."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Command, Survived
from tests.faults.conftest import LONG, Training, in_the_long_set, times
from tests.processes.process import Process

SHELL = """
import os, sys
os.execvp("sh", ["sh", "-c", '"$0" -m fashion_vgg "$@" {}', sys.executable, *sys.argv[1:]])
"""
"""A program that starts a command in a new interpreter, with redirections as a shell does them."""
LIMITED = """
import resource, runpy, sys
kind, limit = sys.argv.pop(1).split("=")
resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (int(limit), int(limit)))
runpy.run_module("fashion_vgg", run_name="__main__", alter_sys=True)
"""
UNPRIVILEGED = """
import ctypes, os, runpy
if os.getuid() == 0:  # without the capabilities that override a file's permissions
    libc, head, data = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, data)
    for index in range(3):
        data[index] &= ~0b1110
    assert libc.capset(head, data) == 0
runpy.run_module("fashion_vgg", run_name="__main__", alter_sys=True)
"""


def refused(process: Process, message: str, lines: int = 1) -> None:
    done = process.result()
    assert done.returncode == 2, done
    assert re.search(message, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) <= lines, done.stderr


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def run(undisturbed: Training, tmp_path: Path) -> Path:
    """A finished run."""
    return shutil.copytree(undisturbed.folder, tmp_path / "seen" / "run")


def test_a_closed_or_full_stream_gives_no_traceback(
    fashion_vgg: Command, run: Path, tmp_path: Path, survived: Survived
) -> None:
    for redirections in (">&-", "2>&-", ">&- 2>&-", ">&- 2>&- <&-"):
        for args, status in ((["runs", "--root", str(run.parent)], 0), (["report", str(tmp_path / "none")], 2)):
            process = fashion_vgg.start(*args, program=["-c", SHELL.format(redirections)])
            done = process.result()
            assert done.returncode == status, (redirections, done)
            assert "Traceback" not in done.stderr + done.stdout
    full = fashion_vgg.start("runs", "--root", str(run.parent), program=["-c", SHELL.format("> /dev/full")])
    refused(full, r"cannot be written: No space left on device")
    survived("a closed or full standard stream gives no traceback", 9, 9)


@in_the_long_set
def test_a_training_goes_on_without_its_terminal(
    fashion_vgg: Command, small: list[str], tmp_path: Path, survived: Survived
) -> None:
    for name, redirections in (("closed", ">&- 2>&- <&-"), ("reader gone", "2>&1 | true")):
        folder = tmp_path / name / "run"
        words = ["train", *small, f"hydra.run.dir={folder}"]
        process = fashion_vgg.start(*words, program=["-c", SHELL.format(redirections)])
        done = process.result()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (folder / "summary.json").exists()
        assert "epoch  3/3" in (folder / "train.log").read_text()
    survived("a training continues without its terminal or the reader of its output", 2, 2)


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=in_the_long_set),
    ],
)
def test_an_ascii_terminal_shows_every_character(
    fashion_vgg: Command, run: Path, tmp_path: Path, survived: Survived, locale: dict[str, str]
) -> None:
    shutil.copytree(run, run.parent / "other")
    named = shutil.copytree(run, tmp_path / "ü" / "ß")
    env = locale | {"PYTHONUTF8": "0"}
    report = fashion_vgg("report", str(run.parent), root=tmp_path, env=env, fork=False)
    assert report.returncode == 0, report.stderr
    assert "\\xb1" in report.stdout
    for args in (["runs", "--root", str(named.parent)], ["train", "--help"]):
        done = fashion_vgg(*args, root=tmp_path, env=env, fork=False)
        assert done.returncode == 0, done.stderr
    survived("an ASCII terminal shows every character", 3, 3)


def test_a_limit_on_file_sizes_is_reported(
    fashion_vgg: Command, small: list[str], run: Path, tmp_path: Path, survived: Survived
) -> None:
    root, program = tmp_path / "limited", ["-c", LIMITED]
    too_large = r"cannot be written: File too large\."
    training = fashion_vgg.start("FSIZE=100000", "train", *small, "hydra.run.dir=run", program=program, root=root)
    refused(training, rf"run/last\.ckpt {too_large}", lines=2)
    assert not (root / "run" / "last.ckpt").exists()
    for args in (["report", str(run)], ["export", f"weights={run}", "to=net.safetensors"]):
        refused(fashion_vgg.start("FSIZE=1000", *args, program=program, root=root), too_large, lines=2)
    assert not list(root.glob("*.safetensors"))
    assert not [path for path in [*root.rglob(".*"), *run.rglob(".*")] if path.suffix == ".part"]
    survived("a limit on file sizes is reported", 3, 3)


@pytest.mark.parametrize("gigabytes", [0.05, 2.5] if LONG else [2.5])
def test_too_little_memory_is_reported(
    fashion_vgg: Command, small: list[str], tmp_path: Path, survived: Survived, gigabytes: float
) -> None:
    line = [f"AS={int(gigabytes * 1e9)}", "train", *small]
    process = fashion_vgg.start(*line, program=["-c", LIMITED], root=tmp_path, fork=False)
    refused(process, r"^The memory does not suffice: ")
    assert not files(tmp_path)
    survived("too little memory to start is reported", 1, 1)


LONG_NAME = "n" * 300


def test_a_name_that_is_too_long_is_reported(
    fashion_vgg: Command, small: list[str], run: Path, tmp_path: Path, survived: Survived
) -> None:
    root = tmp_path / "root"
    keys = ["hydra.run.dir", "output_dir", "checkpoint.folder", "data.root", "resume", "init_weights"]
    lines = [["train", *small, f"{key}={tmp_path}/{LONG_NAME}"] for key in keys]
    lines += [["test", f"weights={LONG_NAME}"], ["predict", LONG_NAME, f"weights={run}"], ["report", LONG_NAME]]
    lines += [["export", f"weights={run}", f"to={LONG_NAME}.safetensors"], ["runs", "--root", LONG_NAME]]
    lines += [["report", str(run), option, LONG_NAME] for option in ("--csv", "--html")]
    lines = lines if LONG else lines[::3]
    for line in lines:
        refused(fashion_vgg.start(*line, root=root), r"File name too long", lines=2)
        assert not files(root), line
    survived("a name of 300 characters is reported", len(lines), len(lines))


@in_the_long_set
def test_another_users_run_can_be_read_and_is_not_written(
    fashion_vgg: Command, small: list[str], run: Path, tmp_path: Path, survived: Survived
) -> None:
    before = {path: path.read_bytes() for path in files(run)}
    subprocess.run(["chmod", "-R", "a-w", str(run.parent)], check=True)
    program, new = ["-c", UNPRIVILEGED], tmp_path / "new"
    allowed = [["runs", "--root", str(run.parent)], ["report", str(run), "--html", str(tmp_path / "page.html")]]
    allowed += [["test", f"weights={run}"], ["predict", f"{run}/result.png", f"weights={run}"]]
    allowed += [["export", f"weights={run}", f"to={tmp_path}/net.safetensors"]]
    denied = [["report", str(run)], ["export", f"weights={run}"], ["train", f"resume={run}", "trainer.max_epochs=4"]]
    denied += [["train", *small, f"{key}={run}/new"] for key in ("hydra.run.dir", "data.root")]
    try:
        for line in allowed:
            done = fashion_vgg.start(*line, program=program, root=new).result()
            assert done.returncode == 0, (line, done)
        for line in denied:
            refused(fashion_vgg.start(*line, program=program, root=new), rf"{run}\S*( \(|: )Permission denied", lines=2)
        assert not files(new)
        assert {path: path.read_bytes() for path in files(run)} == before
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(run.parent)], check=True)
    survived(
        "a run that belongs to another user is read, and not written", len(allowed + denied), len(allowed + denied)
    )


def test_a_refused_training_leaves_no_folder(
    fashion_vgg: Command, small: list[str], tmp_path: Path, survived: Survived
) -> None:
    root = tmp_path / "root"
    words = ["batch_size=0", "data.batch_size=32", "trainer.devices=7", "init_weights=/none", "+optimizer.foo=1"]
    words = words if LONG else words[::2]
    places = [["hydra.run.dir=run"], []][: times(1, 2)]
    for word in words:
        for place in places:
            refused(fashion_vgg.start("train", *small, word, *place, root=root), r"^(?!Traceback)", lines=2)
            assert not [path for path in root.rglob("*") if path.is_file() or path.name == "run"], word
    mine = root / "mine" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("")
    refused(fashion_vgg.start("train", *small, "batch_size=0", "hydra.run.dir=mine", root=root), "does not fit")
    assert mine.exists()
    number = len(words) * len(places) + 1
    survived("a refused training leaves no folder", number, number)


@in_the_long_set
def test_an_empty_variable_counts_as_unset(fashion_vgg: Command, small: list[str], tmp_path: Path) -> None:
    done = fashion_vgg("train", *small, "trainer.max_epochs=1", root=tmp_path, env={"FASHION_VGG_ROOT": ""})
    assert done.returncode == 0, done.stderr
    [run] = tmp_path.glob("outputs/train/*/*")
    listed = fashion_vgg("runs", root=tmp_path, env={"FASHION_VGG_ROOT": ""})
    assert run.name in listed.stdout


@in_the_long_set
def test_a_path_with_an_interpolation_is_taken_literally(
    fashion_vgg: Command, small: list[str], run: Path, data_root: Path, tmp_path: Path, survived: Survived
) -> None:
    folder, root = tmp_path / "${oc.env:HOME}", tmp_path / "root"
    folder.mkdir()
    there = run.rename(folder / "run")
    (folder / "data").symlink_to(data_root)
    lines = [
        ["test", f"weights={there}"],
        ["predict", f"{there}/result.png", f"weights={there}"],
        ["export", f"weights={there}", f"to={folder}/net.safetensors"],
        ["train", *small, f"data.root={folder}/data", f"init_weights={there}", "trainer.max_epochs=1"],
    ]
    for line in lines:
        done = fashion_vgg(*line, root=root)
        assert done.returncode == 0, done.stderr
    for word in (f"hydra.run.dir={folder}/new", f"resume={there}", f"checkpoint.folder={folder}/new"):
        refused(fashion_vgg.start("train", *small, word, root=root / "none"), re.escape(f"{folder}/"))
    refused(fashion_vgg.start("train", *small, root=folder), "Hydra evaluates")
    assert not files(root / "none")
    survived("a path with an interpolation is taken literally, or refused", len(lines) + 4, len(lines) + 4)
