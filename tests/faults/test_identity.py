"""Checkpoints, folders and sweeps that belong to another run, or to two processes at once."""

import re
import signal
from pathlib import Path

import pytest
import torch

from fashion_vgg.checkpoints import run_folder
from tests.conftest import Survived
from tests.faults.conftest import MakeTraining, Training, in_the_long_set
from tests.helpers import assert_same, curves
from tests.processes.command import Command


@pytest.fixture(scope="module")
def few(tiny: list[str]) -> list[str]:
    """Overrides for a training of two steps."""
    return [*tiny, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]


def test_a_run_never_resumes_from_another_runs_checkpoint(
    few: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    shared = tmp_path / "shared"
    ours = training(tmp_path / "ours", [*few, f"checkpoint.folder={shared}"])
    process = ours.start("trainer.max_epochs=1000")
    process.wait_until((ours.folder / run_folder.CONFIG).exists)
    process.kill()
    assert not list(shared.glob("*.ckpt"))
    other = training(tmp_path / "other", [*few, f"checkpoint.folder={shared}", "seed=1"])
    assert other.run().returncode == 0
    done = ours.resume()
    assert done.returncode == 2, done
    [line] = done.stderr.splitlines()
    assert line.startswith(
        f"{shared}/last.ckpt is a checkpoint of another run, {other.folder}. This run had saved none"
    )
    done = ours.resume(f"checkpoint.folder={tmp_path}/own", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert "has no checkpoint yet: training starts from the first step" in done.stdout
    assert torch.load(tmp_path / "own/last.ckpt", weights_only=True)["run"]["folder"] == str(ours.folder)
    # Its own checkpoint is found again where it is, and not in the shared folder.
    done = ours.resume("trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert f"Resuming from {tmp_path}/own/last.ckpt, after step 2" in done.stdout
    survived("a checkpoint of another run in a shared folder is refused by name", 1, 1)


@in_the_long_set
def test_two_runs_that_start_at_once_with_one_checkpoint_folder(
    fashion_vgg: Command, few: list[str], tmp_path: Path, survived: Survived
) -> None:
    words = ["train", *few, f"checkpoint.folder={tmp_path}/shared"]
    started = [fashion_vgg.start(*words, f"seed={seed}", root=tmp_path) for seed in range(2)]
    done = [process.result() for process in started]
    assert sorted(result.returncode for result in done) == [0, 2], done
    [refused] = [result.stderr for result in done if result.returncode]
    assert re.fullmatch(
        r"\S+/shared(: another process is training there| has the checkpoints of another run: .*)\.\n", refused
    )
    [winner] = tmp_path.glob("outputs/train/*/*/summary.json")
    owner = torch.load(tmp_path / "shared/last.ckpt", weights_only=True)["run"]["folder"]
    assert owner == str(winner.parent)
    survived("of two runs that start with one checkpoint folder, one is refused", 1, 1)


@in_the_long_set
def test_a_checkpoint_file_brings_its_settings(
    few: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    first = training(tmp_path / "first", [*few, f"checkpoint.folder={tmp_path}/apart"])
    assert first.run().returncode == 0
    new = training(tmp_path / "new", [*few, f"resume={tmp_path}/apart/last.ckpt", "trainer.max_epochs=2"])
    for override, message in {
        "optimizer.lr=0.5": "optimizer.lr is 0.5, and was 0.05 when ",
        "seed=3": "seed is 3, and was 0 when",
        "scheduler=triangular": "scheduler._target_ is torch.optim.lr_scheduler.OneCycleLR, and was not set when",
        "+trainer.gradient_clip_val=0.1": "trainer.gradient_clip_val is 0.1, and was null when",
        "init_weights=x.ckpt": "init_weights is x.ckpt, and was null when",
    }.items():
        done = new.run(override)
        assert done.returncode == 2, done
        assert done.stderr.startswith(message), done.stderr
        assert f"when {tmp_path}/apart/last.ckpt was started" in done.stderr
    assert new.run().returncode == 0
    first_id, new_id = (
        torch.load(path, weights_only=True)["run"]["id"]
        for path in (tmp_path / "apart/last.ckpt", new.folder / "last.ckpt")
    )
    assert first_id != new_id
    survived("a setting that must stay is compared with the checkpoint's own", 5, 5)


def test_what_can_change_the_result_is_reported(
    few: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    run = training(tmp_path / "run", few)
    assert run.run().returncode == 0
    content = torch.load(run.folder / "last.ckpt", weights_only=True)
    number = content["threads"]
    torch.save({**content, "threads": number + 1}, run.folder / "last.ckpt")  # as if another number had been set
    done = run.resume("trainer.max_epochs=2", "trainer.deterministic=true", "tags=[more]")
    assert done.returncode == 0, done.stderr
    log = (run.folder / "train.log").read_text()
    assert "trainer.deterministic was false, and is true: the uninterrupted training might end differently." in log
    assert f"The checkpoint was written with {number + 1} threads, and {number} are used" in log
    assert log.count("[WARNING]") == 2
    survived("a change that can alter the result is reported when a run is resumed", 2, 2)


@in_the_long_set
def test_the_clock_may_be_set_back_before_a_resume(
    undisturbed: Training, small: list[str], training: MakeTraining, tmp_path: Path, survived: Survived
) -> None:
    run = training(tmp_path / "run", small)
    metrics = run.folder / "metrics.csv"
    run.run_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) == 3, signal.SIGKILL)
    for path in run.folder.glob("events.*"):  # of a clock that was a day ahead
        *before, stamp, rest = path.name.split(".", maxsplit=4)[:5]
        path.rename(path.with_name(".".join([*before, str(int(stamp) + 86_400), rest])))
    assert run.resume().returncode == 0
    assert_same(curves(undisturbed.folder), curves(run.folder), "events")
    survived("TensorBoard's curves stay in order if the clock is set back", 1, 1)


class TestSweeps:
    SWEEP = ("-m", "optimizer.lr=0.1,1e9")

    def test_a_sweep_without_a_record_is_not_started(
        self, fashion_vgg: Command, few: list[str], tmp_path: Path, survived: Survived
    ) -> None:
        (tmp_path / "sweep/sweep.yaml").mkdir(parents=True)
        done = fashion_vgg("train", *self.SWEEP, *few, f"hydra.sweep.dir={tmp_path}/sweep", root=tmp_path)
        assert done.returncode == 2, done
        assert done.stderr == f"{tmp_path}/sweep/sweep.yaml: Is a directory. Use another file or folder.\n"
        assert not list(tmp_path.rglob("config.yaml"))
        survived("a sweep whose record cannot be written is not started", 1, 1)

    def test_a_sweeps_folder_has_one_process(
        self, fashion_vgg: Command, few: list[str], tmp_path: Path, survived: Survived
    ) -> None:
        sweep = tmp_path / "sweep"
        words = ["train", *self.SWEEP, *few, f"hydra.sweep.dir={sweep}"]
        first = fashion_vgg.start(*words, root=tmp_path)
        first.wait_until(lambda: any(sweep.glob("*/train.log")))
        first.send_signal(signal.SIGSTOP)  # its few steps could end before the second one has started
        second = fashion_vgg(*words, root=tmp_path)
        assert (second.returncode, second.stderr) == (2, f"{sweep}: another process is running a sweep there.\n")
        first.send_signal(signal.SIGCONT)
        done = first.result()
        assert done.returncode == 1, done
        assert "1 job of the sweep failed:\n  lr=1000000000.0: diverged." in done.stderr
        failed = sweep / "lr=1000000000.0"
        process = fashion_vgg.start("train", f"resume={failed}", root=tmp_path)
        process.wait_until(lambda: not (failed / "outcome.json").exists())  # a run that is resumed has no error
        process.kill()
        survived("of two sweeps in one folder, one is refused", 1, 1)

    @in_the_long_set
    def test_a_job_that_another_process_trains_is_left_alone(
        self, fashion_vgg: Command, few: list[str], tmp_path: Path, survived: Survived
    ) -> None:
        sweep = tmp_path / "sweep"
        words = ["train", "-m", "optimizer.lr=0.1", *few, f"hydra.sweep.dir={sweep}"]
        assert fashion_vgg(*words, root=tmp_path).returncode == 0
        [job] = [path.parent for path in sweep.rglob("summary.json")]
        (job / "summary.json").unlink()
        process = fashion_vgg.start("train", f"resume={job}", "trainer.max_epochs=1000", root=tmp_path)
        process.wait_until(lambda: run_folder.is_locked(job))
        done = fashion_vgg("train", f"sweep.resume={sweep}", root=tmp_path)
        assert done.returncode == 1, done
        assert f"Another process is still training {job.name}. When it has ended: fashion-vgg train -m" in done.stderr
        assert not list(sweep.rglob("outcome.json"))
        process.kill()
        survived("a job that another process trains is reported, and left alone", 1, 1)
