"""`fashion-vgg export` to each format, read again by the program that the format is for; `fashion-vgg test`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from fashion_vgg.checkpoints import published
from fashion_vgg.data import fashion_mnist
from fashion_vgg.data.transforms import Preprocess
from fashion_vgg.errors import TrainingError
from fashion_vgg.inference import export, model_card, predictor
from fashion_vgg.inference.exportable import ExportablePreprocess
from tests.conftest import Command
from tests.helpers import read_summary, trained, weights

pytestmark = pytest.mark.long


def test_a_run_whose_checkpoints_are_elsewhere_is_used_like_any_other(
    fashion_vgg: Command, tiny: list[str], tmp_path: Path
) -> None:
    words = [*tiny, "trainer.max_epochs=1", "trainer.limit_val_batches=1.0", f"checkpoint.folder={tmp_path}/apart"]
    assert fashion_vgg("train", *words, root=tmp_path).returncode == 0
    tested = fashion_vgg("test", root=tmp_path)
    assert (tested.returncode, tested.stderr) == (0, "")
    assert tested.stdout.splitlines()[0].endswith(f": {tmp_path}/apart/last.ckpt")
    assert tested.stdout.splitlines()[1] == "Equal to the recorded values."
    [summary] = tmp_path.glob("outputs/train/*/*/summary.json")
    assert fashion_vgg("export", root=tmp_path).returncode == 0
    loaded = predictor.load(summary.with_name("weights.safetensors"))
    assert loaded.card["metrics"]["test/acc"] == read_summary(summary.parent)["final"]["test/acc"]


@pytest.fixture(scope="module")
def run(fashion_vgg: Command, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training at 32 px that was tested on the whole test set."""
    return trained(fashion_vgg, tmp_path_factory, *tiny, "image_size=32", "trainer.limit_val_batches=1.0")


@pytest.fixture(scope="module")
def images(data_root: Path) -> Tensor:
    return fashion_mnist.load(data_root, "test")[0][:256]


class TestExport:
    def test_safetensors_contains_the_weights_and_their_description(self, fashion_vgg: Command, run: Path) -> None:
        done = fashion_vgg("export", f"weights={run}")
        accuracy = read_summary(run)["final"]["test/acc"]
        origin = f"Weights: {run / 'last.ckpt'}, test accuracy {accuracy:.3f}, fashion-vgg train "
        assert (done.returncode, done.stderr[: len(origin)]) == (0, origin)
        path = run / "weights.safetensors"
        assert re.fullmatch(rf"{path}: 0\.\d MB, SHA-256 [0-9a-f]{{64}}\n", done.stdout)
        state, card = published.read(path)
        expected = weights(run)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
        assert card["classes"] == list(fashion_mnist.CLASS_NAMES)
        assert card["preprocessing"] == {"image_size": 32, "channels": 1, "mean": 0.0, "std": 1.0}
        assert card["metrics"]["test/acc"] == read_summary(run)["final"]["test/acc"]

    @pytest.mark.parametrize("preprocess", [pytest.param("false", marks=pytest.mark.thorough), "true"])
    def test_onnx_runtime_computes_the_same_logits(
        self, fashion_vgg: Command, run: Path, images: Tensor, tmp_path: Path, preprocess: str
    ) -> None:
        path = tmp_path / "vgg.onnx"
        done = fashion_vgg("export", f"weights={run}", "format=onnx", f"preprocess={preprocess}", f"to={path}")
        assert (done.returncode, len(done.stderr.splitlines())) == (0, 1), done.stderr
        check_report(done.stdout, path)
        network = predictor.load(run)
        inputs = images if preprocess == "true" else network.preprocess(images)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for batch in (inputs, inputs[:1]):
            [logits] = session.run(None, {"images": batch.numpy()})
            assert np.abs(logits - network.logits(images[: len(batch)]).numpy()).max() < 1e-4
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert json.loads(metadata["classes"]) == list(fashion_mnist.CLASS_NAMES)
        assert json.loads(metadata["preprocessing"])["image_size"] == 32
        expected = (
            "uint8 (N, 28, 28), pixels from 0" if preprocess == "true" else "float32 (N, 1, 32, 32), pixels divided"
        )
        assert metadata["input"].startswith(expected)
        assert metadata["output"] == "logits, float32 (N, 10)"

    def test_torch_export_loads_without_this_package(
        self, fashion_vgg: Command, run: Path, images: Tensor, tmp_path: Path
    ) -> None:
        path = tmp_path / "vgg.pt2"
        done = fashion_vgg("export", f"weights={run}", "format=torch_export", "preprocess=true", f"to={path}")
        assert (done.returncode, len(done.stderr.splitlines())) == (0, 1), done.stderr
        check_report(done.stdout, path)
        torch.save(images, tmp_path / "images.pt")
        program = (
            "import sys, torch; files = {'model_card.json': ''};"
            "program = torch.export.load(sys.argv[1] + '/vgg.pt2', extra_files=files);"
            "images = torch.load(sys.argv[1] + '/images.pt');"
            "torch.save(program.module()(images), sys.argv[1] + '/logits.pt'); print(files['model_card.json']);"
            "assert 'fashion_vgg' not in sys.modules"
        )
        loaded = fashion_vgg.start(str(tmp_path), program=("-c", program), fork=False).result()
        assert loaded.returncode == 0, loaded.stderr
        assert json.loads(loaded.stdout)["classes"] == list(fashion_mnist.CLASS_NAMES)
        expected = predictor.load(run).logits(images)
        assert torch.allclose(torch.load(tmp_path / "logits.pt"), expected, rtol=0, atol=1e-4)

    def test_a_file_that_differs_from_the_network_is_not_written(
        self, run: Path, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        net, card = predictor.load_network(run / "last.ckpt")
        to_onnx = export._to_onnx

        def to_other_network(*args: Any) -> export.Forward:
            exported = to_onnx(*args)
            return lambda x: exported(x) + (2e-4 if len(x) == 1 else 0)  # in the last batch alone

        monkeypatch.setattr(export, "_to_onnx", to_other_network)
        with pytest.raises(TrainingError, match=r"vgg.onnx was not written: its outputs differ by 2.*more than 1e-04"):
            export.write(net, card, lambda: images[:40], tmp_path / "vgg.onnx", "onnx", False)
        assert list(tmp_path.iterdir()) == []

    def test_an_exported_file_can_be_exported_again(self, fashion_vgg: Command, run: Path, tmp_path: Path) -> None:
        for source, name in ((run, "one"), (tmp_path / "one.safetensors", "other")):
            done = fashion_vgg("export", f"weights={source}", f"to={tmp_path}/{name}.safetensors")
            assert done.returncode == 0, done.stderr
        one, other = (published.read(tmp_path / f"{name}.safetensors") for name in ("one", "other"))
        assert one[1] == other[1]
        assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])

    def test_the_weights_in_the_package_are_exported_to_the_current_folder(
        self, fashion_vgg: Command, tmp_path: Path
    ) -> None:
        done = fashion_vgg("export", root=tmp_path)
        assert done.returncode == 0, done.stderr
        assert published.read(tmp_path / "weights.safetensors")

    @pytest.mark.thorough
    def test_a_float64_network_keeps_its_weights(self, fashion_vgg: Command, tiny: list[str], tmp_path: Path) -> None:
        words = ["trainer.precision=64-true", "trainer.max_epochs=1", "trainer.limit_val_batches=1.0"]
        assert fashion_vgg("train", *tiny, *words, root=tmp_path).returncode == 0
        done = fashion_vgg("export", "weights=last", f"to={tmp_path}/w.safetensors", root=tmp_path)
        assert done.returncode == 0, done.stderr
        tested = fashion_vgg("test", f"weights={tmp_path}/w.safetensors", f"data.root={tiny[0][10:]}", root=tmp_path)
        assert tested.stdout.endswith("Equal to the recorded values.\n"), tested.stdout + tested.stderr

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_extra_is_reported(self, fashion_vgg: Command, run: Path, tmp_path: Path, package: str) -> None:
        done = fashion_vgg("export", f"weights={run}", "format=onnx", f"to={tmp_path}/vgg.onnx", without=package)
        assert done.returncode == 2
        assert done.stderr.splitlines()[1:] == [f"{package} is not installed: pip install 'fashion-vgg[onnx]'."]
        assert list(tmp_path.iterdir()) == []

    def test_options_that_do_not_fit_are_reported(self, fashion_vgg: Command, run: Path) -> None:
        for words, message in (
            (["preprocess=true"], "preprocess=true does not fit format=safetensors"),
            ([f"to={run}/vgg.onnx"], f"to={run}/vgg.onnx does not fit format=safetensors: add format=onnx, or name"),
            ([f"to={run}/none/"], f"to={run}/none/: there is no folder {run}/none."),
            (["format=onnxx"], "format=onnxx does not fit: use one of safetensors, onnx, torch_export."),
            (["format=onnx", f"to={run}/none/vgg.onnx"], f"to={run}/none/vgg.onnx: there is no folder {run}/none."),
        ):
            done = fashion_vgg("export", f"weights={run}", *words)
            assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
            assert message in done.stderr


@pytest.mark.parametrize("size", [14, 27, 28, 32, 96, 100, 224])
def test_exported_preprocessing_is_bit_identical(images: Tensor, size: int) -> None:
    preprocess = Preprocess(size, channels=3, mean=0.449, std=0.226)
    assert torch.equal(ExportablePreprocess(preprocess)(images[:50]), preprocess(images[:50]))


def check_report(stdout: str, path: Path) -> None:
    size, difference, speed = stdout.splitlines()
    assert size.startswith(f"{path}: {path.stat().st_size / 1e6:.1f} MB, SHA-256 ")
    [largest] = re.findall("Largest difference from the network's logits on 256 test images: (.*)", difference)
    assert float(largest) < 1e-4
    assert re.fullmatch(r"[\d,]+ images/s, the network in PyTorch [\d,]+", speed)


class TestTest:
    def test_it_repeats_the_recorded_values(self, fashion_vgg: Command, run: Path) -> None:
        recorded = read_summary(run)["final"]
        done = fashion_vgg("test", f"weights={run}")
        assert (done.returncode, done.stderr) == (0, "")
        values = f"test loss {recorded['test/loss']:.4f}, test acc {recorded['test/acc']:.4f}"
        assert done.stdout == f"{values}: {run / 'last.ckpt'}\nEqual to the recorded values.\n"

    def test_metrics_of_other_weights_are_not_repeated(self, run: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(run, tmp_path / "run")
        assert model_card.of(copy)["metrics"]
        cfg: Any = OmegaConf.load(copy / "config.yaml")
        cfg.trainer.val_check_interval = 0.25  # of an epoch, whose last evaluation is then before its last step
        OmegaConf.save(cfg, copy / "config.yaml")
        assert model_card.of(copy)["metrics"] == {}
        tested = {"test/acc": 0.9, "test/loss": 0.3}  # of the best checkpoint
        content = read_summary(copy)
        content["best"] = {"epoch": 1, "val/acc": 0.91, **tested}
        (copy / "summary.json").write_text(json.dumps(content))
        assert model_card.of(copy)["metrics"] == tested

    def test_without_test_batches_there_is_nothing_to_test(self, fashion_vgg: Command) -> None:
        done = fashion_vgg("test", "weights=speedrun", "trainer.limit_test_batches=0")
        assert done.returncode == 2
        assert done.stderr == (
            "trainer.limit_test_batches=0 leaves nothing to test: add trainer.limit_test_batches=1.0.\n"
        )

    def test_an_override_is_used_and_the_recorded_values_are_shown_beside(
        self, fashion_vgg: Command, run: Path
    ) -> None:
        done = fashion_vgg("test", f"weights={run}", "trainer.limit_test_batches=2")
        assert done.returncode == 0, done.stderr
        measured, recorded = done.stdout.splitlines()
        assert measured.startswith("test loss ")
        assert recorded == f"Recorded: test loss {read_summary(run)['final']['test/loss']:.4f}, test acc " + (
            f"{read_summary(run)['final']['test/acc']:.4f}."
        )

    def test_by_class_they_are_the_rows_of_the_confusion_matrix(
        self, fashion_vgg: Command, run: Path, data_root: Path
    ) -> None:
        done = fashion_vgg("test", f"weights={run}", "per_class=true")
        assert done.returncode == 0, done.stderr
        rows = [re.split("  +", line) for line in done.stdout.splitlines()[4:]]
        images, labels = fashion_mnist.load(data_root, "test")
        logits = predictor.load(run).logits(images)
        for label, (name, count, loss, accuracy) in enumerate(rows):
            own = labels == label
            assert (name, count) == (fashion_mnist.CLASS_NAMES[label], "1,000")
            assert float(accuracy) == pytest.approx(float((logits[own].argmax(1) == label).double().mean()), abs=1e-4)
            assert float(loss) == pytest.approx(float(F.cross_entropy(logits[own], labels[own])), abs=1e-4)

    def test_an_exported_file_needs_no_run_and_sets_its_network(
        self, fashion_vgg: Command, run: Path, data_root: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "w.safetensors"
        assert fashion_vgg("export", f"weights={run}", f"to={path}").returncode == 0
        done = fashion_vgg("test", f"weights={path}", f"data.root={data_root}", root=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f"{path}\nEqual to the recorded values.\n")
        refused = fashion_vgg("test", f"weights={path}", "image_size=96", root=tmp_path)
        assert refused.returncode == 2
        assert "image_size=96 does not fit: the description in" in refused.stderr

    def test_the_weights_in_the_package_need_no_run(
        self, fashion_vgg: Command, data_root: Path, tmp_path: Path
    ) -> None:
        done = fashion_vgg("test", f"data.root={data_root}", root=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.match(r"test loss 0\.255\d, test acc 0\.919\d: speedrun \(in the package\)", done.stdout)
