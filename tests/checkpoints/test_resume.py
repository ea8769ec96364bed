"""Resuming: the command line, the settings that must stay, the order of the checkpoints."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from fashion_vgg.__main__ import expanded
from fashion_vgg.checkpoints import resume, run_folder
from fashion_vgg.commands import train
from fashion_vgg.config.overrides import quoted, value_of
from fashion_vgg.errors import UserError
from tests.helpers import composed, leave


def expand(*argv: str) -> list[str]:
    return resume.expand(argv)


def test_without_resume_the_command_line_is_unchanged() -> None:
    for argv in ([], ["seed=1", "-m"], ["resume=null", "seed=1"]):
        assert expand(*argv) == argv


def test_recorded_overrides_are_replaced_by_those_given_again(tmp_path: Path) -> None:
    run = leave(tmp_path / "run", ["model=vgg11", "seed=1", "+trainer.max_steps=5", "~logger"])
    words = expand(f"resume={run}", "seed=2", "trainer.max_steps=9", "--cfg", "job")
    assert words[:5] == ["model=vgg11", "~logger", "seed=2", "trainer.max_steps=9", "--cfg"]
    assert words[6:] == [f"resume='{run}'", f"hydra.run.dir='{run}'", "hydra.output_subdir=null"]
    assert expand(*words) == words  # Lightning starts the other ranks with the expanded command line


def test_a_relative_path_and_a_checkpoint_in_the_folder_name_the_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = leave(tmp_path / "run", ["seed=1"])
    (run / "last-1.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    for named in ("run", "run/last-1.ckpt"):
        assert f"hydra.run.dir='{run}'" in expand(f"resume={named}")


def test_a_checkpoint_outside_a_run_starts_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "some.ckpt").touch()
    assert expand(f"resume={tmp_path}/some.ckpt", "seed=1") == ["seed=1", f"resume='{tmp_path}/some.ckpt'"]


def test_auto_is_the_newest_unfinished_run_of_the_same_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASHION_VGG_ROOT", str(tmp_path))
    trainings, same = tmp_path / "outputs" / "train", ["model=vgg11", "seed=1"]
    oldest = leave(trainings / "2026-01-01" / "10-00-00", same)
    wanted = leave(trainings / "2026-01-02" / "10-00-00", [*same, "resume=/before"])
    leave(trainings / "2026-01-03" / "10-00-00", same, epochs=1)
    leave(trainings / "2026-01-04" / "10-00-00", ["model=vgg11", "seed=2"])
    (trainings / "2026-01-05" / "10-00-00" / ".hydra").mkdir(parents=True)  # its training had not started
    argv = ["seed=1", "resume=auto", "model=vgg11", "hydra.job.chdir=false"]
    assert f"hydra.run.dir='{wanted}'" in expand(*argv)
    # A process that found it holds its lock, so that another one resumes the next, or begins a run.
    other = f"print(*resume.expand({argv}))"
    assert f"hydra.run.dir='{oldest}'" in in_another_process(other)
    with run_folder.lock(oldest):
        assert in_another_process(other) == "seed=1 model=vgg11 hydra.job.chdir=false\n"
    assert expand("seed=3", "resume=auto") == ["seed=3"]
    assert f"hydra.run.dir='{wanted}'" in expand(*argv, "--config-name", "train")


def test_auto_in_a_named_folder_is_the_run_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHION_VGG_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    leave(tmp_path / "outputs" / "train" / "2026-01-01" / "10-00-00", ["seed=1"])
    run, words = tmp_path / "runs" / "a,seed=1", ["seed=1", "hydra.run.dir='runs/a,seed=1'", "resume=auto"]
    assert expand(*words) == words[:2], "a new run"
    leave(run, ["seed=1"])
    assert value_of(expand(*words), "hydra.run.dir") == str(run)
    (run / run_folder.SUMMARY).touch()
    assert expand(*words) == words[:2], "it is finished"


def test_auto_finds_a_run_whose_overrides_hydra_records_with_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASHION_VGG_ROOT", str(tmp_path))
    first = leave(tmp_path / "outputs" / "train" / "2026-01-01" / "speedrun,10-00-00", [])
    words = ["experiment=speedrun", f"init_weights={first}"]
    started = expanded(train, words)
    assert value_of(started, "init_weights") == str(first)
    assert started != words
    run = leave(tmp_path / "outputs" / "train" / "2026-01-02" / "10-00-00", started)
    assert f"hydra.run.dir='{run}'" in expanded(train, [*words, "resume=auto"])


def test_a_record_adds_only_overrides_of_ours(tmp_path: Path) -> None:
    """Neither flags nor Hydra's own keys, which can run code."""
    evil = ["-m", "--config-dir=/evil", "hydra.callbacks.x._target_=os.system", "+hydra/launcher=evil", "++hydra.x=1"]
    run = leave(tmp_path / "run", [*evil, "~hydra.callbacks", "seed=1"])
    assert expand(f"resume={run}")[0] == "seed=1"
    assert not [word for word in expand(f"resume={run}") if "evil" in word or "callbacks" in word]
    (run / run_folder.OVERRIDES).write_text("- seed=1\n- [")
    with pytest.raises(UserError, match=r"overrides\.yaml cannot be read: it is not YAML"):
        expand(f"resume={run}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["++resume=auto"], r"\+\+resume=auto: write resume= without"),
        (["-m", "resume=.", "seed=1,2"], "leave out -m"),
        (["resume=/no/run"], "resume=/no/run: no such folder or file"),
        (["resume=/"], "resume=/: not a run's folder"),
    ],
)
def test_what_cannot_be_resumed_is_reported(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        expand(*argv)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda text: text.strip() == text))
def test_any_path_survives_hydras_grammar_and_ours(text: str) -> None:
    [override] = OverridesParser.create().parse_overrides([f"resume={quoted(text)}"])
    assert OmegaConf.create({"resume": override.value()}).resume == text
    assert value_of([f"resume={quoted(text)}"], "resume") == text


def settings(folder: Path, *overrides: str) -> DictConfig:
    return composed("train", f"output_dir={folder}", f"resume={folder}", *overrides)


def test_settings_that_would_be_ignored_may_not_change(tmp_path: Path) -> None:
    (tmp_path / run_folder.CONFIG).write_text(OmegaConf.to_yaml(settings(tmp_path), resolve=True))
    free = ["trainer.max_epochs=20", "data.root=/elsewhere", "data.num_workers=2", "checkpoint.every_minutes=1"]
    assert resume.find_resume_point(settings(tmp_path, *free), free) == (None, 0)  # no checkpoint yet
    changes = {
        "optimizer.lr=0.1": "optimizer.lr is 0.1, and was 0.05 when",
        "model.ratio=2": "model.ratio is 2, and was 4",
        "data.flip=0.5": "data.flip is 0.5, and was 0",
        "classifier.label_smoothing=0.1": "classifier.label_smoothing is 0.1, and was 0",
        "+optimizer.foreach=true": "optimizer.foreach is true, and was not set",
        "scheduler=triangular": r"scheduler._target_ is torch.optim.lr_scheduler.OneCycleLR, and was not set",
    }
    for override, message in changes.items():
        with pytest.raises(UserError, match=message):
            resume.find_resume_point(settings(tmp_path, override), [override])


def test_a_run_that_is_older_than_a_key_resumes(tmp_path: Path) -> None:
    now = settings(tmp_path, "seed=1")
    then: Any = OmegaConf.to_container(now, resolve=True)
    for group, key in (("data", "channels"), ("data", "mean"), ("model", "relu_between"), ("model", "in_channels")):
        del then[group][key]
    (tmp_path / run_folder.CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(then)))
    resume.find_resume_point(now, ["seed=1"])
    now.data.mean = 0.5
    with pytest.raises(UserError, match=r"data\.mean is 0\.5, and was not set"):
        resume.find_resume_point(now, ["seed=1", "data.mean=0.5"])


def test_settings_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    for text in ("seed: [", "- 1"):
        (tmp_path / run_folder.CONFIG).write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml (cannot be read|holds no settings)"):
            resume.find_resume_point(settings(tmp_path), [])


def test_the_newest_checkpoint_is_first(tmp_path: Path) -> None:
    for name in ("last-10.ckpt", "last-1.ckpt", "last.ckpt", "last-2.ckpt", "best.ckpt"):
        (tmp_path / name).touch()
    names = [path.name for path in resume.resumable_checkpoints(tmp_path)]
    assert names == ["last.ckpt", "last-1.ckpt", "last-2.ckpt", "last-10.ckpt"]


def in_another_process(code: str) -> str:
    """The output of a Python program, which has the imports of this module."""
    imports = "from pathlib import Path; from fashion_vgg.checkpoints import resume, run_folder\n"
    return subprocess.run([sys.executable, "-c", imports + code], capture_output=True, text=True, check=True).stdout


def test_a_lock_is_released_when_its_process_dies(tmp_path: Path) -> None:
    in_another_process(f"import os; run_folder.lock(Path({str(tmp_path)!r})); os._exit(0)")
    attempt = f"""
try:
    run_folder.lock(Path({str(tmp_path)!r}))
except Exception as error:
    print(type(error).__name__, error)
"""
    with run_folder.lock(tmp_path):
        assert in_another_process(attempt) == f"LockedError {tmp_path}: another process is training there.\n"
        with run_folder.lock(tmp_path):  # this process has it
            pass
        assert run_folder.is_locked(tmp_path)
    assert not run_folder.is_locked(tmp_path)


def test_a_probe_of_the_lock_never_refuses_a_start(tmp_path: Path) -> None:
    """`fashion-vgg runs` probes a run's lock by taking it for a moment."""
    with run_folder.lock(tmp_path):
        pass
    child = os.fork()
    if not child:
        while True:
            run_folder.is_locked(tmp_path)
    try:
        for _ in range(300):
            with run_folder.lock(tmp_path):
                pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
