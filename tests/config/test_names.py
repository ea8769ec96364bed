"""Names of runs, jobs and settings."""

import hypothesis.strategies as st
from hypothesis import given

from fashion_vgg.config.names import job_name, run_name, short_names


def test_a_key_is_named_by_its_last_part_unless_another_has_the_same() -> None:
    keys = ["optimizer.lr", "model.ratio", "seed", "scheduler.patience", "callbacks.early_stopping.patience"]
    assert list(short_names(keys).values()) == ["lr", "ratio", "seed", *keys[3:]]
    assert short_names(["seed", "data.seed"]) == {"seed": "seed", "data.seed": "data.seed"}


def test_a_run_is_named_after_its_experiment_and_what_was_overridden() -> None:
    words = ["optimizer.lr=0.2", "experiment=speedrun", "data.root=/data", "~callbacks.best", "+trainer.barebones=true"]
    assert run_name(words) == "speedrun,lr=0.2,~best,barebones=true"
    assert run_name(["experiment=kernels/one_7x7", "seed=1"]) == "kernels+one_7x7,seed=1"
    assert run_name([]) == ""
    assert run_name(["seed=1"], name="my run/../x") == "my_run+..+x"
    assert run_name([f"model.hidden{n}=100" for n in range(20)]) == ",".join(f"hidden{n}=100" for n in range(5))
    trial = ["trainer.limit_train_batches=20", "optimizer.lr=1", "model=vgg11"]
    assert run_name(trial) == "model=vgg11,lr=1,limit_train_batches=20"


def test_a_job_is_named_after_the_swept_keys_alone() -> None:
    words = ["experiment=accuracy_93", "optimizer.lr=0.2", "model.ratio=4", "seed=1", "sweep.keys=[seed]", "seed=2"]
    assert job_name(words, ["optimizer.lr", "model.ratio", "seed"]) == "lr=0.2,ratio=4,seed=2"
    assert job_name(words, []) == "accuracy_93,lr=0.2,ratio=4,seed=2"
    assert job_name([], []) == "job"


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=300)


@given(VALUES, VALUES)
def test_different_jobs_have_different_names_that_are_one_folder(one: str, other: str) -> None:
    names = [job_name([f"init_weights={value}"], ["init_weights"]) for value in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert all("/" not in name and len(name.encode()) <= 255 for name in names)
    assert job_name(["init_weights=w/a.ckpt"], ["init_weights"]) != job_name(
        ["init_weights=w_a.ckpt"], ["init_weights"]
    )
