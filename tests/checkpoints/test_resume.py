import os
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fashion_vgg.checkpoints import resume, run_folder
from fashion_vgg.config.overrides import quoted
from fashion_vgg.errors import UserError
from tests.helpers import composed


def run_in(folder: Path, overrides: list[str], finished: bool = False) -> Path:
    """What a run leaves that `resume` looks at."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / run_folder.OVERRIDES)
    (folder / run_folder.CONFIG).write_text("{}")
    if finished:
        (folder / run_folder.SUMMARY).write_text("{}")
    return folder


def arguments(*argv: str, runs: Path = Path("nowhere")) -> list[str]:
    return resume.arguments(argv, "resume", runs)


def test_without_resume_the_command_line_stays_as_it_is() -> None:
    for argv in ([], ["seed=1", "-m"], ["resume=null", "seed=1"]):
        assert arguments(*argv) == argv


def test_the_runs_overrides_come_first_and_those_that_are_given_again_are_left_out(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run", ["model=vgg11", "seed=1", "+trainer.max_steps=5", "~logger"])
    words = arguments(f"resume={run}", "seed=2", "trainer.max_steps=9", "--cfg", "job")
    assert words[:5] == ["model=vgg11", "~logger", "seed=2", "trainer.max_steps=9", "--cfg"]
    assert words[6:] == [f"resume='{run}'", f"hydra.run.dir='{run}'", "hydra.output_subdir=null"]
    assert arguments(*words) == words  # as a training's further processes are started


def test_a_relative_path_and_a_checkpoint_in_the_folder_name_the_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path / "run", ["seed=1"])
    (run / "last-1.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    for named in ("run", "run/last-1.ckpt"):
        assert f"hydra.run.dir='{run}'" in arguments(f"resume={named}")


def test_a_checkpoint_elsewhere_begins_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "some.ckpt").touch()
    assert arguments(f"resume={tmp_path}/some.ckpt", "seed=1") == ["seed=1", f"resume='{tmp_path}/some.ckpt'"]


def test_auto_is_the_newest_unfinished_run_of_the_same_overrides(tmp_path: Path) -> None:
    same = ["model=vgg11", "seed=1"]
    run_in(tmp_path / "2026-01-01" / "10-00-00", same)
    wanted = run_in(tmp_path / "2026-01-02" / "10-00-00", [*same, "resume=/before"])
    run_in(tmp_path / "2026-01-03" / "10-00-00", same, finished=True)
    run_in(tmp_path / "2026-01-04" / "10-00-00", ["model=vgg11", "seed=2"])
    begun = tmp_path / "2026-01-05" / "10-00-00" / ".hydra"
    begun.mkdir(parents=True)
    argv = ["seed=1", "resume=auto", "model=vgg11", "hydra.job.chdir=false"]
    assert f"hydra.run.dir='{wanted}'" in arguments(*argv, runs=tmp_path)
    with run_folder.lock(wanted):
        assert f"hydra.run.dir='{tmp_path}/2026-01-01/10-00-00'" in arguments(*argv, runs=tmp_path)
    assert arguments("seed=3", "resume=auto", runs=tmp_path) == ["seed=3"]
    assert f"hydra.run.dir='{wanted}'" in arguments(*argv, "--config-name", "train", runs=tmp_path)


def test_a_record_adds_overrides_alone(tmp_path: Path) -> None:
    """Not flags, nor Hydra's own keys, which can run code."""
    evil = ["-m", "--config-dir=/evil", "hydra.callbacks.x._target_=os.system", "+hydra/launcher=evil", "++hydra.x=1"]
    run = run_in(tmp_path / "run", [*evil, "~hydra.callbacks", "seed=1"])
    assert arguments(f"resume={run}")[0] == "seed=1"
    assert not [word for word in arguments(f"resume={run}") if "evil" in word or "callbacks" in word]
    (run / run_folder.OVERRIDES).write_text("- seed=1\n- [")
    assert arguments(f"resume={run}")[0].startswith("resume=")


def test_resume_is_not_forced_past_the_record() -> None:
    with pytest.raises(UserError, match=r"\+\+resume=auto: write resume= without"):
        arguments("++resume=auto")


def test_settings_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    for text in ("seed: [", "- 1"):
        (tmp_path / run_folder.CONFIG).write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml (cannot be read|holds no settings)"):
            resume.check_unchanged(composed("train", f"output_dir={tmp_path}"), tmp_path, [])


def test_several_runs_are_not_gone_on_with_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave -m out"):
        arguments("-m", f"resume={tmp_path}", "seed=1,2")


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda text: text.strip() == text))
def test_any_path_comes_through_hydras_grammar(text: str) -> None:
    [override] = OverridesParser.create().parse_overrides([f"resume={quoted(text)}"])
    assert override.value() == text


def test_settings_that_would_be_ignored_may_not_change(tmp_path: Path) -> None:
    (tmp_path / run_folder.CONFIG).write_text(
        OmegaConf.to_yaml(composed("train", f"output_dir={tmp_path}"), resolve=True)
    )
    free = ["trainer.max_epochs=20", "data.root=/elsewhere", "data.num_workers=2", "checkpoint.every_minutes=1"]
    resume.check_unchanged(composed("train", f"output_dir={tmp_path}", *free), tmp_path, free)
    changes = {
        "optimizer.lr=0.1": "optimizer.lr is 0.1, and was 0.05 when",
        "model.ratio=2": "model.ratio is 2, and was 4",
        "seed=1": "data.seed is 1, and was 0",
        "+optimizer.foreach=true": "optimizer.foreach is true, and was not set",
        "scheduler=triangular": r"scheduler._target_ is torch.optim.lr_scheduler.OneCycleLR, and was not set",
    }
    for override, message in changes.items():
        with pytest.raises(UserError, match=message):
            resume.check_unchanged(composed("train", f"output_dir={tmp_path}", override), tmp_path, [override])


def test_a_run_of_before_a_key_was_there_goes_on(tmp_path: Path) -> None:
    now = composed("train", f"output_dir={tmp_path}", "seed=1")
    then: Any = OmegaConf.to_container(now, resolve=True)
    for group, key in (("data", "channels"), ("data", "mean"), ("model", "relu_between"), ("model", "in_channels")):
        del then[group][key]
    (tmp_path / run_folder.CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(then)))
    resume.check_unchanged(now, tmp_path, ["seed=1"])
    now.data.mean = 0.5
    with pytest.raises(UserError, match=r"data\.mean is 0\.5, and was not set"):
        resume.check_unchanged(now, tmp_path, ["seed=1", "data.mean=0.5"])


def test_the_newest_checkpoint_comes_first(tmp_path: Path) -> None:
    for name in ("last-10.ckpt", "last-1.ckpt", "last.ckpt", "last-2.ckpt", "best.ckpt"):
        (tmp_path / name).touch()
    names = [path.name for path in resume.checkpoints(tmp_path)]
    assert names == ["last.ckpt", "last-1.ckpt", "last-2.ckpt", "last-10.ckpt"]


def test_a_lock_is_let_go_when_its_holder_dies(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        lock = run_folder.lock(tmp_path)
        os._exit(0 if lock.is_locked else 1)
    assert os.waitpid(child, 0)[1] == 0
    with run_folder.lock(tmp_path), pytest.raises(UserError, match="another process is training there"):
        run_folder.lock(tmp_path)
