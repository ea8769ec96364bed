"""`fashion-vgg predict`, and `fashion_vgg.load` in Python."""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fashion_vgg as package
from fashion_vgg.checkpoints import published
from fashion_vgg.commands import predict
from fashion_vgg.data import fashion_mnist
from fashion_vgg.inference import predictor, sources
from tests.conftest import Command
from tests.helpers import path_with_srun, read_summary, trained

COLUMNS = ("class", "probability")


@pytest.fixture(scope="module")
def test_set(data_root: Path) -> tuple[Tensor, Tensor]:
    return fashion_mnist.load(data_root, "test")


@pytest.fixture(scope="module")
def run(fashion_vgg: Command, tiny_with_plots: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training in bfloat16."""
    return trained(fashion_vgg, tmp_path_factory, *tiny_with_plots, "trainer.precision=bf16-mixed")


@pytest.fixture
def pictures(test_set: tuple[Tensor, Tensor], tmp_path: Path) -> Path:
    """The first three test images, a text that is called a picture, and an empty file."""
    folder = tmp_path / "my (pictures)"
    folder.mkdir()
    for index, image in enumerate(test_set[0][:3]):
        Image.fromarray(image.numpy()).save(folder / f"{index}.png")
    (folder / "text.png").write_text("no picture")
    (folder / "zero.jpg").touch()
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("batches", "number"), [(8, 1024), pytest.param("1.0", 10_000, marks=pytest.mark.thorough, id="all")]
)
def test_test_images_as_files_have_the_recorded_accuracy(
    fashion_vgg: Command,
    tiny: list[str],
    test_set: tuple[Tensor, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    batches: str,
    number: int,
) -> None:
    words = ["trainer.precision=auto", f"trainer.limit_val_batches={batches}"]
    run = trained(fashion_vgg, tmp_path_factory, *tiny, *words)
    for index, image in enumerate(test_set[0][:number]):
        Image.fromarray(image.numpy()).save(tmp_path / f"{index:05}.png")
    done = fashion_vgg("predict", str(tmp_path), f"weights={run}", "format=csv", "top=1")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["image"]).name for row in rows] == [f"{index:05}.png" for index in range(number)]
    labels = [fashion_mnist.CLASS_NAMES[label] for label in test_set[1][:number]]
    correct = sum(row["class"] == label for row, label in zip(rows, labels, strict=True))
    assert float(torch.tensor(correct / number)) == read_summary(run)["final"]["test/acc"]


def test_the_weights_in_the_package_have_the_accuracy_in_their_description(test_set: tuple[Tensor, Tensor]) -> None:
    network = package.load("speedrun")
    assert network.card["metrics"]["test/acc"] == pytest.approx(0.9196)
    correct = (network.logits(test_set[0]).argmax(dim=1) == test_set[1]).sum()
    # float32 products in another order may decide a tie between two classes otherwise.
    assert abs(int(correct) - 9196) <= 2
    assert network.card["command"].startswith("fashion-vgg train experiment=speedrun")
    assert len(network.card["commit"]) == 40
    assert sources.SPEEDRUN.stat().st_size < 1_700_000


def test_a_list_may_be_longer_than_a_files_name() -> None:
    pictures = f"images=[{','.join(f'{number:05}.png' for number in range(100))}]"
    assert predict.expand([pictures, "top=1"]) == ["top=1", pictures]


def test_unreadable_files_are_reported_and_the_others_classified(fashion_vgg: Command, pictures: Path) -> None:
    done = fashion_vgg("predict", str(pictures), "weights=speedrun")
    assert done.returncode == 2
    header, *lines = done.stdout.splitlines()
    assert re.split("  +", header) == ["class", "probability", *(f"{n} {k}" for k in (2, 3) for n in COLUMNS), "image"]
    cells = [re.split("  +", line) for line in lines]
    assert [row[0] for row in cells] == ["ankle boot", "pullover", "trouser"]
    assert [row[-1] for row in cells] == [str(pictures / name) for name in ("0.png", "1.png", "2.png")]
    weights, text, zero, last = done.stderr.splitlines()
    assert weights.startswith(
        "Weights: speedrun (in the package), test accuracy 0.920, fashion-vgg train experiment=speedrun"
    )
    for line, name in ((text, "text.png"), (zero, "zero.jpg")):
        assert line == f"{pictures / name}: not a picture that PIL can read, or damaged."
    assert last == "2 of 5 pictures could not be classified."


def test_a_file_may_have_any_name(fashion_vgg: Command, pictures: Path) -> None:
    (pictures / "0.png").rename(pictures / "a,b=c's.png")
    done = fashion_vgg("predict", "a,b=c's.png", "weights=speedrun", root=pictures)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].endswith("a,b=c's.png")


@pytest.mark.parametrize("words", [["{}/0.png"], ["images={}/0.png"], ["images={}/0*"], ["images=['{}/0.png']"]])
def test_pictures_are_named_in_any_way(fashion_vgg: Command, pictures: Path, words: list[str]) -> None:
    named = [word.format(pictures) for word in words]
    done = fashion_vgg("predict", *named, "weights=speedrun", "format=json", "top=2")
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    content = json.loads(line)
    assert content["image"] == str(pictures / "0.png")
    [prediction] = package.load("speedrun").predict(pictures / "0.png")
    assert content["classes"] == pytest.approx(
        dict(zip(prediction.classes[:2], prediction.probabilities, strict=False))
    )
    assert sum(prediction.probabilities) == pytest.approx(1)


def test_a_picture_is_read_from_the_standard_input(fashion_vgg: Command, pictures: Path) -> None:
    program = f"import os, sys; os.dup2(os.open({str(pictures / '0.png')!r}, os.O_RDONLY), 0);"
    program += "from fashion_vgg.__main__ import main; main()"
    done = fashion_vgg.start("predict", "-", "weights=speedrun", program=("-c", program)).result()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[::7] == ["ankle", "-"]


@pytest.mark.filterwarnings("error:The .srun. command is available")
def test_a_network_loads_silently_on_a_machine_with_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path_with_srun(tmp_path))
    package.load("speedrun")


def test_python_takes_paths_pil_images_arrays_and_tensors(pictures: Path, test_set: tuple[Tensor, Tensor]) -> None:
    network = package.load("speedrun")
    path = pictures / "0.png"
    for images in (path, str(path), Image.open(path), test_set[0][0], test_set[0][0].numpy(), [path], test_set[0][:1]):
        [prediction] = network.predict(images)
        assert prediction.classes[0] == "ankle boot"
        assert str(prediction).startswith("ankle boot (")
    assert [p.classes[0] for p in network.predict(test_set[0][:3])] == ["ankle boot", "pullover", "trouser"]
    assert network.predict(np.zeros((0, 28, 28), np.uint8)) == []


MISTAKES = [
    ([], "Name a picture, a folder or a pattern: fashion-vgg predict shoe.jpg"),
    (["none.png"], "images=none.png: no such file, and no file matches it."),
    (["empty"], "images=empty: the folder has no picture."),
    (["0.png", "weights=last"], "no run is finished: train one with"),
    (["0.png", "weights=best"], "no finished run has a validation split"),
    (["0.png", "weights=0.png"], "0.png: no config.yaml beside it describes its network: use a run's folder, or"),
    (
        ["0.png", "weights=vgg.onnx"],
        "weights=vgg.onnx is for other programs: use the run's folder, or a safetensors file",
    ),
    (["0.png", "--format", "json"], "--format: write format=<value>, without dashes."),
    (["0.png", "format=markdown"], "format=markdown does not fit: use one of table, csv, json."),
    (["0.png", "weights=other.safetensors"], "has no description of its network: use a file of `fashion-vgg export`."),
]
SIMILAR_MISTAKES = [
    (["0.png", "weights=none"], "weights=none: no such folder or file"),
    (["0.png", "--weights=last"], "--weights: write weights=<value>, without dashes."),
    (["images=[3]"], "images=[3] does not fit: use a text or a list of files."),
    (["0.png", "top=0"], "top=0 does not fit"),
    (["0.png", "background=white"], "background=white does not fit: use one of auto, dark, light."),
    (["0.png", "weigths=last"], "weigths: no such key. Did you mean weights?"),
]


@pytest.mark.parametrize(
    ("words", "message"),
    [*MISTAKES, *(pytest.param(*mistake, marks=pytest.mark.thorough) for mistake in SIMILAR_MISTAKES)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(
    fashion_vgg: Command, tmp_path: Path, test_set: tuple[Tensor, Tensor], words: list[str], message: str
) -> None:
    from safetensors.torch import save_file

    Image.fromarray(test_set[0][0].numpy()).save(tmp_path / "0.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "vgg.onnx").touch()
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    done = fashion_vgg("predict", *words, root=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_no_picture(fashion_vgg: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    done = fashion_vgg("predict", "fifo.png", "weights=speedrun", root=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[1]) == (2, "fifo.png: no such file.")


def test_a_run_without_a_checkpoint_is_reported(fashion_vgg: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    done = fashion_vgg("predict", str(run / "result.png"), f"weights={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == (
        f"{tmp_path} has no checkpoint. If it is an interrupted run, resume it: fashion-vgg train resume={tmp_path}\n"
    )


def test_an_unfinished_run_is_used_and_said_to_be(fashion_vgg: Command, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    for name in ("summary.json", "best.ckpt"):
        (tmp_path / name).unlink(missing_ok=True)
    done = fashion_vgg("predict", str(run / "result.png"), f"weights={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"Weights: {tmp_path / 'last.ckpt'}, fashion-vgg train data.root=")
    assert done.stderr.endswith(" (not finished)\n")


def test_a_description_cannot_run_code(fashion_vgg: Command, run: Path, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "weights.safetensors"
    card = package.load("speedrun").card
    for target in ("os.mkdir", "lightning.Trainer"):
        network = {"_target_": target, **({"path": str(marker)} if target == "os.mkdir" else {})}
        published.write(path, {}, card | {"network": network})
        done = fashion_vgg("predict", str(run / "result.png"), f"weights={path}")
        assert done.returncode == 2
        assert "does not fit: a configuration may instantiate" in done.stderr or "which is no network" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize(
    "key",
    [
        "network",
        *(
            pytest.param(key, marks=pytest.mark.thorough)
            for key in ("preprocessing", "classes", "precision", "command", "finished")
        ),
    ],
)
def test_an_incomplete_description_is_reported(fashion_vgg: Command, run: Path, tmp_path: Path, key: str) -> None:
    state, card = published.read(sources.SPEEDRUN)
    published.write(tmp_path / "w.safetensors", state, {name: card[name] for name in card if name != key})
    for command in (["predict", str(run / "result.png")], ["test"], ["export", f"to={tmp_path}/other"]):
        done = fashion_vgg(*command, f"weights={tmp_path}/w.safetensors")
        assert done.returncode == 2
        assert f"the description of its network has no valid {key}." in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_description_of_other_classes_is_reported(fashion_vgg: Command, run: Path, tmp_path: Path) -> None:
    state, card = published.read(sources.SPEEDRUN)
    published.write(tmp_path / "w.safetensors", state, card | {"classes": ["a", "b"]})
    done = fashion_vgg("predict", str(run / "result.png"), f"weights={tmp_path}/w.safetensors")
    assert (done.returncode, done.stderr) == (2, "The network has 10 classes, its description names 2.\n")


def test_flags_are_no_pictures(fashion_vgg: Command) -> None:
    for words in (["shoe.jpg", "--cfg", "job"], ["--cfg", "job", "shoe.jpg"]):
        done = fashion_vgg("predict", *words)
        assert done.returncode == 0, done.stderr
        assert "images: shoe.jpg" in done.stdout


def test_other_numbers_of_classes_have_numbers_for_names(data_root: Path) -> None:
    card = package.load("speedrun").card
    network = predictor.build(card | {"network": card["network"] | {"num_classes": 3}})
    images = fashion_mnist.load(data_root, "test")[0][:1]
    [prediction] = predictor.Predictor(network, card | {"classes": ["0", "1", "2"]}).predict(images)
    assert sorted(prediction.classes) == ["0", "1", "2"]
