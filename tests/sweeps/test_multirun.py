"""Sweeps through the real command line: interrupted, failing, parallel, and searched by Optuna."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.config import error_messages
from fashion_vgg.config.app import CONF
from fashion_vgg.config.overrides import key_of, quoted
from fashion_vgg.errors import UserError
from fashion_vgg.runs.run import Run, find_runs
from fashion_vgg.sweeps import command_line, job_process, multirun, record, sweep_folder
from tests.conftest import Command
from tests.helpers import TIMES, curves, leave

pytestmark = pytest.mark.long


def jobs(root: Path) -> dict[str, Run]:
    """The jobs of the only sweep in a folder, by their learning rates."""
    [sweep] = root.glob("outputs/sweeps/*/*")
    found = find_runs(sweep)
    return {re.findall(r"(?:^|,)lr=([\d.e+-]+)", run.folder.name)[0]: run for run in found}


def reported(fashion_vgg: Command, root: Path) -> list[dict[str, str]]:
    """The rows of a sweep's report in full precision, without the durations."""
    done = fashion_vgg("report", "--csv", "report.csv", root=root)
    assert done.returncode == 0, done.stderr
    with (root / "report.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


SWEEP = ["optimizer.lr=0.1,0.2,0.3,0.4", "trainer.max_epochs=3", "checkpoint.every_minutes=0"]


@pytest.mark.parametrize("again", [pytest.param("the same command", marks=pytest.mark.thorough), "sweep.resume=last"])
def test_a_killed_sweep_resumes_the_interrupted_job(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path, again: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for root in (whole, killed):
        root.mkdir()
    folder = f"hydra.sweep.dir={killed}/outputs/sweeps/some/where"
    if again == "the same command":
        assert fashion_vgg("train", "-m", *tiny, *SWEEP, root=whole).returncode == 0
    process = fashion_vgg.start("train", "-m", *tiny, *SWEEP, folder, root=killed)
    third = killed / "outputs/sweeps/some/where"

    def within_the_third() -> bool:
        return any("lr=0.3" in path.parent.name for path in third.glob("*/last.ckpt"))

    process.wait_until(within_the_third)
    process.kill()
    before = {lr: run.folder.joinpath("summary.json") for lr, run in jobs(killed).items() if run.status == "finished"}
    assert sorted(before) == ["0.1", "0.2"]
    written = {lr: path.stat().st_mtime_ns for lr, path in before.items()}
    args = ["-m", *tiny, *SWEEP, folder] if again == "the same command" else ["-m", "sweep.resume=last"]
    done = fashion_vgg("train", *args, root=killed)
    assert done.returncode == 0, done.stderr
    assert len(re.findall("Finished before: ", done.stdout)) == 2
    assert {lr: path.stat().st_mtime_ns for lr, path in before.items()} == written
    assert re.search(r"Resuming from \S*/lr=0.3/last.ckpt, after step \d+", done.stdout)
    assert [run.status for run in jobs(killed).values()] == ["finished"] * 4
    if again == "the same command":
        assert reported(fashion_vgg, killed) == reported(fashion_vgg, whole)
    for run in jobs(killed).values():
        assert [row["epoch"] for row in run.rows] == [1, 2, 3]
        curves(run.folder)


def test_diverged_and_failed_jobs_are_reported_and_the_others_run(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    done = fashion_vgg("train", "-m", *tiny, "optimizer.lr=1e9,-1,0.05", root=tmp_path)
    assert done.returncode == 1
    by_rate = jobs(tmp_path)
    statuses = {lr: run.status for lr, run in by_rate.items()}
    assert statuses == {"1000000000.0": "diverged", "-1": "failed", "0.05": "finished"}
    assert "optimizer.lr=-1 does not fit" in by_rate["-1"].outcome["error"]
    log = by_rate["1000000000.0"].folder.joinpath("train.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "Traceback" not in done.stdout + done.stderr
    assert len(re.findall(r"lr=1000000000.0: diverged\. The loss is nan", done.stdout)) == 1
    rows = reported(fashion_vgg, tmp_path)
    assert {row["optimizer.lr"]: row["status"] for row in rows} == statuses
    assert rows[0]["status"] == "finished"
    first, *listed, last = done.stderr.splitlines()
    assert first == "2 jobs of the sweep failed:"
    assert len(listed) == 2
    assert last.startswith("Run only these again with: fashion-vgg train -m sweep.resume=")


@pytest.mark.thorough
def test_with_fail_fast_no_job_starts_after_a_failure(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    done = fashion_vgg("train", "-m", *tiny, "optimizer.lr=1e9,0.05", "sweep.fail_fast=true", root=tmp_path)
    assert done.returncode == 1
    assert list(jobs(tmp_path)) == ["1000000000.0"]
    assert "Skipped, since another job failed: " in done.stdout
    again = fashion_vgg("train", "sweep.resume=last", "optimizer.lr=0.05", root=tmp_path)
    assert again.returncode == 0, again.stderr
    assert jobs(tmp_path)["0.05"].status == "finished"


STOPS = [
    ("basic", signal.SIGINT, 130),
    *((name, signal.SIGTERM, 143) for name in ("basic", "joblib", "ray")),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("launcher", "signum", "status"), STOPS)
def test_a_stopped_sweep_is_resumable(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path, launcher: str, signum: signal.Signals, status: int
) -> None:
    words = ["trainer.max_epochs=10", "optimizer.lr=0.1,0.2", f"hydra/launcher={launcher}"]
    process = fashion_vgg.start("train", "-m", *tiny, *words, "checkpoint.every_minutes=60", root=tmp_path)
    process.wait_until(lambda: any(tmp_path.glob("outputs/sweeps/*/*/*lr=0.2*/metrics.csv")))
    process.send_signal(signum)
    done = process.result(timeout=60)
    [sweep] = tmp_path.glob("outputs/sweeps/*/*")
    assert done.returncode == status, done
    assert f"Resume with: {sweep_folder.resume_command(sweep)}" in done.stderr
    assert len(done.stderr.splitlines()) == 1 or launcher == "ray"  # which prints a line of its own
    assert jobs(tmp_path)["0.2"].status == "unfinished"
    done = fashion_vgg("train", "sweep.resume=last", root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [run.status for run in jobs(tmp_path).values()] == ["finished"] * 2


def test_the_error_of_a_part_is_recorded_without_hydras_frame(tmp_path: Path) -> None:
    error = InstantiationException("Error in call to target 'a.Logger':\nKeyError('table')\nfull_key: logger.a")
    error.__cause__ = KeyError("table")
    multirun._report_failure(tmp_path, error)
    assert json.loads((tmp_path / "outcome.json").read_text())["error"] == "KeyError: 'table'"


@pytest.mark.thorough
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_the_same_sweep_on_other_launchers(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path, launcher: str
) -> None:
    at_once = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    done = fashion_vgg(
        "train", "-m", *tiny, "optimizer.lr=0.05,1e9,0.1", f"hydra/launcher={launcher}", *at_once, root=tmp_path
    )
    assert done.returncode == 1, done.stderr
    assert "1 job of the sweep failed:" in done.stderr
    assert "Warning" not in done.stdout + done.stderr.replace("FutureWarning: Tip", "")
    statuses = {lr: run.status for lr, run in jobs(tmp_path).items()}
    assert statuses == {"0.05": "finished", "1000000000.0": "diverged", "0.1": "finished"}
    if launcher == "joblib":
        share = max(1, (os.cpu_count() or 1) // 2)
        assert {run.summary["threads"] for run in jobs(tmp_path).values() if run.summary} == {share}
    again = fashion_vgg("train", "sweep.resume=last", "optimizer.lr=0.05,0.1", root=tmp_path)
    assert again.returncode == 0, again.stderr
    if launcher == "joblib":
        assert "Joblib.Parallel(n_jobs=2" in again.stdout
        assert again.stdout.count("Finished before: ") == 2


@pytest.mark.thorough
def test_a_killed_job_ends_a_parallel_sweep_with_a_message(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_epochs=1000"]
    process = fashion_vgg.start("train", "-m", *tiny, *parallel, "optimizer.lr=0.1,0.2", root=tmp_path)
    process.wait_until(lambda: len(list(tmp_path.glob("outputs/sweeps/*/*/*/metrics.csv"))) == 2)
    with (tmp_path / "pids").open("w") as file:
        subprocess.run(["pgrep", "-P", str(process.pid)], stdout=file, check=True)
    commands = {pid: Path("/proc", pid, "cmdline").read_text() for pid in (tmp_path / "pids").read_text().split()}
    os.kill(int(next(pid for pid, line in commands.items() if "LokyProcess" in line)), signal.SIGKILL)
    done = process.result(timeout=120)
    assert done.returncode == 1
    first, second = [line for line in done.stderr.splitlines() if "Warning" not in line and not line.startswith(" ")][
        -2:
    ]
    assert first.startswith("A job's process died: ")
    assert second.startswith("Resume with: fashion-vgg train -m sweep.resume=")


def test_parallel_jobs_are_assigned_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)  # no real GPU is needed to assign them

    def gpus(number: int, devices: Any, jobs: int = 2) -> list[int]:
        cfg = OmegaConf.create({"trainer": {"devices": devices, "accelerator": "auto"}})
        hydra: Any = OmegaConf.create({"launcher": {"n_jobs": jobs}, "job": {"num": number}})
        return multirun.own_gpus(cfg, hydra)

    assert [gpus(number, 1) for number in range(5)] == [[0], [1], [2], [3], [0]]
    assert [gpus(number, 2) for number in range(3)] == [[0, 1], [2, 3], [0, 1]]
    assert gpus(1, 1, jobs=1) == gpus(1, [3]) == gpus(1, "auto") == []
    assert job_process.visible_devices([0, 2]) == "0,2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-7a")
    assert job_process.visible_devices([0, 2]) == "4,GPU-7a"
    monkeypatch.setenv(job_process.SWEEP, "sweep")  # a job's own process, which sees its GPUs alone
    assert gpus(0, 2) == []


def test_a_diverged_job_is_the_worst_of_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_folder.write_outcome(tmp_path, "diverged", "The loss is nan.")
    for worst, direction, expected in ((None, "maximize", 0), (None, "minimize", math.inf), (0.1, "maximize", 0.1)):
        hydra = OmegaConf.create({"sweeper": {"direction": direction}})
        monkeypatch.setattr(HydraConfig, "get", lambda hydra=hydra: hydra)
        cfg = OmegaConf.create({"sweep": {"worst": worst, "objective": "val/loss"}})
        assert multirun.objective(cfg, tmp_path) == expected


@pytest.mark.thorough
def test_memory_is_freed_between_jobs(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    """A network and its optimizer take 344 MB here; none of six jobs may leave its own."""
    large = ["model=vgg11_narrow", "image_size=32", "model.hidden=4096", "trainer.limit_train_batches=2"]
    few = [*large, "trainer.max_epochs=1", "trainer.limit_val_batches=1", "optimizer.momentum=0.9"]
    process = fashion_vgg.start("train", "-m", *tiny, *few, "seed=0,1,2,3,4,5", root=tmp_path)
    used: dict[int, int] = {}
    while process.poll() is None:
        number = len(list(tmp_path.glob("outputs/sweeps/*/*/*/summary.json")))
        status = Path("/proc", str(process.pid), "status").read_text()
        if found := re.findall(r"VmRSS:\s+(\d+) kB", status):
            used[number] = max(used.get(number, 0), int(found[0]))
        time.sleep(0.01)
    done = process.result()
    assert (done.returncode, done.stderr) == (0, "")
    assert max(used[number] for number in (3, 4, 5)) < used[1] + 100_000, used


def test_a_missing_extra_is_named(fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
    words = ["-m", *tiny, "data.val_size=1000", "hydra/sweeper=optuna", "sweep=search"]
    done = fashion_vgg("train", *words, root=tmp_path, without="optuna")
    assert (done.returncode, done.stderr) == (2, "optuna is not installed: pip install 'fashion-vgg[optuna]'.\n")
    with pytest.raises(RuntimeError) as raised:
        Plugins.instance()._instantiate(OmegaConf.create({"_target_": "hydra_plugins.hydra_nowhere_launcher.Launcher"}))
    message = error_messages.explain(raised.value, "train")
    assert message == "The launcher is not installed: pip install 'fashion-vgg[nowhere]'."


class TestExpand:
    def test_the_sweeps_overrides_and_folder_are_added(self, tmp_path: Path) -> None:
        recorded = ["model=vgg11", "optimizer.lr=0.1,0.2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"]
        recorded += ["sweep=search", "sweep.objective=val/loss", "sweep.fail_fast=true"]
        (tmp_path / record.RECORD).write_text(json.dumps(recorded))
        words = sweep_folder.resumed([f"sweep.resume={tmp_path}", "optimizer.lr=0.3"])
        folder = f"hydra.sweep.dir={quoted(str(tmp_path))}"
        assert words == ["-m", recorded[0], *recorded[2:], "optimizer.lr=0.3", folder]
        assert sweep_folder.resumed(["seed=1", "-m"]) == ["seed=1", "-m"]

    @pytest.mark.parametrize(
        "word",
        [
            *("hydra.launcher.ray.init.address=auto", "hydra.launcher.ray.init.address=127.0.0.1:26379"),
            *("hydra.launcher.ray.remote.num_gpus=1", "hydra.launcher.partition=gpu,gpu2", "hydra.launcher.gres=gpu:2"),
            *("hydra.launcher.constraint=a100|h100", "hydra.launcher.exclude=node[1-3]", "hydra.launcher.mem_gb=2.5"),
            *("hydra.launcher.submitit_folder=/scratch/%j", "hydra/sweeper/sampler=random", "hydra.launcher.qos=a-b"),
            *("hydra.sweeper.storage=sqlite:///study/study.db", "hydra.sweeper.sampler_options.seed=3"),
            "hydra.sweeper.params.optimizer.lr=interval(0.1,1)",
        ],
    )
    def test_the_settings_of_launcher_and_sweeper_are_taken_over(self, tmp_path: Path, word: str) -> None:
        (tmp_path / record.RECORD).write_text(json.dumps([word]))
        assert word in sweep_folder.resumed([f"sweep.resume={tmp_path}"])
        given = f"{key_of(word)}=7"
        assert sweep_folder.resumed([f"sweep.resume={tmp_path}", given])[1:-1] == [given]

    @pytest.mark.parametrize(
        "word",
        [
            *("hydra.launcher.setup=[module load cuda]", "+hydra.launcher.additional_parameters.wrap=id"),
            *("hydra.launcher._target_=os.system", "+hydra.callbacks.x._target_=os.system", "hydra/launcher=../evil"),
            *("hydra.launcher.ray.init.address=ray://elsewhere:1", "hydra.launcher.ray.init.runtime_env=x"),
            *("hydra.sweeper.storage=mysql+evil://elsewhere", "hydra.launcher.comment=${oc.env:HOME}"),
            *("hydra.launcher.partition={_target_:os.system}", "~hydra.callbacks", "hydra.searchpath=[file:///evil]"),
            *("+sweep.space.hydra.launcher.setup=[id]", "sweep=../evil", "sweep.trial=3"),
        ],
    )
    def test_a_setting_that_can_run_code_is_to_be_repeated(self, tmp_path: Path, word: str) -> None:
        (tmp_path / record.RECORD).write_text(json.dumps([word]))
        with pytest.raises(UserError, match="Repeat it on the command line") as raised:
            sweep_folder.resumed([f"sweep.resume={tmp_path}"])
        assert f" may not set {word}. " in str(raised.value)
        assert word in sweep_folder.resumed([f"sweep.resume={tmp_path}", word])

    def test_a_missing_sweep_is_reported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FASHION_VGG_ROOT", str(tmp_path))
        with pytest.raises(UserError, match="there is no sweep in"):
            sweep_folder.resumed(["sweep.resume=last"])
        with pytest.raises(UserError, match="not a sweep's folder, since it has no sweep"):
            sweep_folder.resumed([f"sweep.resume={tmp_path}"])


class TestOptuna:
    SEARCH = ("hydra/sweeper=optuna", "data.val_size=1000", "trainer.max_epochs=3", "hydra.sweep.dir=study")

    def study(self, root: Path) -> Any:
        import optuna

        return optuna.load_study(study_name="fashion-vgg", storage=f"sqlite:///{root}/study/study.db")

    @pytest.mark.thorough
    def test_a_study_is_pruned_interrupted_and_continued(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        search = [*self.SEARCH, "optimizer.lr=tag(log,interval(0.001,10))", "checkpoint.every_minutes=0"]
        process = fashion_vgg.start("train", "-m", *tiny, *search, "hydra.sweeper.n_trials=100", root=tmp_path)
        # The third trial is interrupted in its second epoch.
        process.wait_until(lambda: len(list(tmp_path.glob("study/*/summary.json"))) == 2)
        process.wait_until(lambda: len(list(tmp_path.glob("study/*/metrics.csv"))) == 3)
        process.kill()
        interrupted = next(run for run in find_runs(tmp_path / "study") if run.status == "unfinished")
        done = fashion_vgg("train", "-m", *tiny, *search, "hydra.sweeper.n_trials=9", root=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"Resuming from study/{interrupted.folder.name}/last.ckpt" in done.stdout.replace(f"{tmp_path}/", "")
        study = self.study(tmp_path)
        states = [trial.state.name for trial in study.trials]
        assert states.count("COMPLETE") + states.count("PRUNED") == 9
        assert states.count("FAIL") == 1  # the interrupted one, which ran again under another number
        pruned = [run for run in find_runs(tmp_path / "study") if run.status == "pruned"]
        assert len(pruned) == states.count("PRUNED") > 0
        assert all(len(run.rows) < 3 for run in pruned)
        # The objective is the validation split's, never the test set's.
        values = sorted(trial.value for trial in study.trials if trial.state.name == "COMPLETE")
        finished = [run for run in find_runs(tmp_path / "study") if run.status == "finished"]
        assert values == sorted(run.summary["best"]["val/acc"] for run in finished)
        again = fashion_vgg("train", "-m", *tiny, *search, "hydra.sweeper.n_trials=9", root=tmp_path)
        assert again.returncode == 0
        assert "Launching" not in again.stdout

    @pytest.mark.thorough
    def test_the_shipped_space_in_parallel_jobs(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        own = [word for word in tiny if "model" not in word]
        ready = [*self.SEARCH, "sweep=search", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        done = fashion_vgg(
            "train", "-m", "experiment=speedrun", *own, *ready, "hydra.sweeper.n_trials=2", root=tmp_path
        )
        assert done.returncode == 0, done.stderr
        trials = self.study(tmp_path).trials
        assert [set(trial.params) for trial in trials] == [
            {"optimizer.lr", "batch_size", "model.ratio", "model.dropout"}
        ] * 2
        assert "Best of 2 trials: val/acc" in done.stdout

    def test_choices_are_passed_to_the_jobs_as_they_are_written(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        words = [*self.SEARCH, "hydra.sweeper.n_trials=1", "trainer.gradient_clip_val=null,null"]
        done = fashion_vgg("train", "-m", *tiny, *words, root=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert [run.folder.name for run in find_runs(tmp_path / "study")] == ["gradient_clip_val=null"]

    def test_a_search_is_resumed_with_its_space_and_its_failures(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "sweep").mkdir()
        (tmp_path / "sweep/rates.yaml").write_text("defaults: [default]\nspace: {optimizer.lr: '1e9,1e9'}\n")
        own = [f"--config-dir={tmp_path}", "hydra.sweeper.n_trials=1"]
        done = fashion_vgg("train", "-m", *own, *tiny, *self.SEARCH, "sweep=rates", root=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[0] == "1 job of the sweep failed:"
        assert "Run only these again" not in done.stderr
        again = fashion_vgg("train", "-m", own[0], "sweep.resume=study", "hydra.sweeper.n_trials=2", root=tmp_path)
        assert again.returncode == 1
        assert [trial.value for trial in self.study(tmp_path).trials] == [0, 0]
        [run] = find_runs(tmp_path / "study")
        assert run.status == "diverged"

    def test_a_search_waits_for_trials_of_another_process(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        with run_folder.lock(leave(tmp_path / "study/lr=0.1", [])):
            done = fashion_vgg("train", "-m", *tiny, *self.SEARCH, "sweep=search", root=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("Another process is still training lr=0.1: continue the search when it has")

    def test_another_space_is_refused(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        words = [*tiny, *self.SEARCH, "hydra.sweeper.n_trials=1", "trainer.max_epochs=1"]
        assert fashion_vgg("train", "-m", *words, "model.ratio=4,8", root=tmp_path).returncode == 0
        done = fashion_vgg("train", "-m", *words, "model.ratio=4,16", "hydra.sweeper.n_trials=2", root=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("model.ratio: the study has another space, CategoricalDistribution(choices=(")
        assert len(done.stderr.splitlines()) == 1
        assert [trial.state.name for trial in self.study(tmp_path).trials] == ["COMPLETE"]

    def test_a_mistake_in_a_search_is_refused(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        interval = "optimizer.lr=tag(log,interval(0,1))"
        for words, message in (
            ([interval], f"{interval} does not fit: "),
            (["sweep=search", "hydra.sweeper.sampler=TPE"], "hydra.sweeper.sampler=TPE does not fit: "),
            (["sweep=search", "hydra.sweeper.pruner=Median"], "hydra.sweeper.pruner=Median does not fit: "),
            (["sweep=search", "hydra.sweeper.n_jobs=-1"], "A search with n_jobs=-1: use an integer"),
            (
                ["sweep=search", "sweep.objective=val/loss"],
                "sweep.objective=val/loss needs hydra.sweeper.direction=min",
            ),
        ):
            done = fashion_vgg("train", "-m", *tiny, *self.SEARCH, *words, root=tmp_path)
            assert done.returncode == 2
            assert done.stderr.startswith(message)
            assert len(done.stderr.splitlines()) == 1

    def test_a_search_without_space_or_split_is_refused(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        for words, message in (
            (["data.val_size=1000"], "There is nothing to search: choose sweep=search"),
            (["sweep=search"], "A search needs a validation split for its objective: add data.val_size=5000."),
        ):
            done = fashion_vgg("train", "-m", *tiny, "hydra/sweeper=optuna", *words, root=tmp_path)
            assert done.returncode == 2
            assert message in done.stderr
            assert len(done.stderr.splitlines()) <= 2


class TestCommandLine:
    def test_a_pattern_names_configs_in_folders(self, fashion_vgg: Command) -> None:
        kernels = sorted(path.stem for path in (CONF / "experiment/kernels").glob("*.yaml"))
        assert len(kernels) == 6
        words = command_line.expand(["-m", "experiment=glob(kernels/*)", "seed=0"])
        names = ",".join(f"kernels/{name}" for name in kernels)
        assert words == ["-m", f"experiment={names}", "seed=0", "sweep.keys=[experiment]"]
        words = command_line.expand(["-m", "experiment=glob(*,exclude=[s*,d2l*,a*])"])
        assert words[1] == "experiment=best,best_cpu,finetune"
        with pytest.raises(UserError, match=r"experiment=glob\(kernel/\*\): no such config. Available: accuracy_93, "):
            command_line.expand(["-m", "experiment=glob(kernel/*)"])

    def test_torchrun_starts_no_sweep(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
        with pytest.raises(UserError, match="Start a sweep without torchrun"):
            command_line.expand(["-m", "seed=0,1"])

    def test_a_sweep_of_no_jobs_is_an_error(self, fashion_vgg: Command, tmp_path: Path) -> None:
        done = fashion_vgg("train", "-m", "seed=range(3,3)", root=tmp_path)
        assert (done.returncode, done.stderr) == (2, "seed=range(3,3): a sweep over no values.\n")
        assert not list(tmp_path.iterdir())

    def test_the_configuration_of_a_sweep_is_that_of_its_first_job(self, fashion_vgg: Command) -> None:
        done = fashion_vgg("train", "-m", "seed=range(3,6)", "model=vgg16,vgg11", "--cfg", "job")
        assert (done.returncode, done.stderr) == (0, "The configuration of the first of 6 jobs:\n")
        cfg: Any = OmegaConf.create(done.stdout)
        assert (cfg.seed, len(cfg.model.conv_arch), cfg.model.conv_arch[-1][0]) == (3, 5, 3)

    def test_jobs_and_sweeps_are_named_after_what_differs(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        few = ["trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.max_epochs=1"]
        grid = ["optimizer.lr=0.1", "model.ratio=8,4", "init_weights=null", "seed=1,2", "name=small"]
        done = fashion_vgg("train", "-m", *tiny, *few, *grid, root=tmp_path)
        assert done.returncode == 0, done.stderr
        [sweep] = tmp_path.glob("outputs/sweeps/*/*")
        assert re.fullmatch(r"small,\d\d-\d\d-\d\d-[0-9a-f]{6}", sweep.name)
        names = {run.folder.name for run in find_runs(sweep)}
        assert names == {"ratio=8,seed=1", "ratio=8,seed=2", "ratio=4,seed=1", "ratio=4,seed=2"}
        table = fashion_vgg("runs", root=tmp_path).stdout
        assert "Common settings: data.root=" in table
        assert set(re.findall(r"ratio=\d seed=\d", table)) == {name.replace(",", " ") for name in names}

    def test_a_sweep_of_a_config_names_its_jobs_after_it(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "experiment").mkdir()
        params = "hydra: {sweeper: {params: {optimizer.lr: '0.1,0.2'}}}"
        (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{params}\n")
        few = ["trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.max_epochs=1"]
        words = [f"--config-dir={tmp_path}", "hydra.mode=MULTIRUN", "experiment=mine", "seed=0,1"]
        done = fashion_vgg("train", *words, *tiny, *few, root=tmp_path)
        assert done.returncode == 0, done.stderr
        [sweep] = tmp_path.glob("outputs/sweeps/*/*")
        names = {run.folder.name for run in find_runs(sweep)}
        assert names == {f"seed={seed},lr={rate}" for seed in (0, 1) for rate in (0.1, 0.2)}

    def test_a_finished_job_of_other_overrides_is_not_taken_for_this_one(
        self, fashion_vgg: Command, tiny: list[str], tmp_path: Path
    ) -> None:
        few = ["trainer.limit_train_batches=1", "trainer.max_epochs=1", "seed=0,1", f"hydra.sweep.dir={tmp_path}/sweep"]
        assert fashion_vgg("train", "-m", *tiny, *few, "optimizer.lr=0.2", root=tmp_path).returncode == 0
        recorded = (tmp_path / "sweep" / record.RECORD).read_text()
        for words, expected in (
            (["optimizer.lr=0.1"], "optimizer.lr=0.1: .*/sweep has finished jobs of other settings; leave it out, or"),
            ([], r"optimizer.lr=0.2: the finished jobs of .*/sweep have it; add it, or start a new sweep\."),
        ):
            done = fashion_vgg("train", "-m", *tiny, *few, *words, root=tmp_path)
            assert done.returncode == 2
            assert re.search(expected, done.stderr)
            assert (tmp_path / "sweep" / record.RECORD).read_text() == recorded
        (tmp_path / "sweep" / record.RECORD).write_text("damaged")
        done = fashion_vgg("train", "-m", *tiny, *few, root=tmp_path)
        assert done.returncode == 2
        assert "seed=0 was finished with other overrides (optimizer.lr=0.2): use a new hydra.sweep.dir." in done.stderr
        assert (tmp_path / "sweep/seed=0/summary.json").exists()
        assert not list(tmp_path.rglob("outcome.json"))
