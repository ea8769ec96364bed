"""The plots of predictions, against the network's logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fashion_vgg.analysis import plots
from fashion_vgg.data.fashion_mnist import CLASS_NAMES
from fashion_vgg.training import PredictionPlots
from tests.helpers import small_classifier, small_datamodule, trainer_for


def test_the_mistakes_are_those_of_the_highest_confidence(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[str]] = []
    grid = plots.image_grid

    def recorded(images: Any, captions: list[str]) -> Any:
        shown.append(captions)
        return grid(images, captions)

    monkeypatch.setattr(plots, "image_grid", recorded)
    data, classifier = small_datamodule(data_root), small_classifier()
    trainer, _ = trainer_for(tmp_path, PredictionPlots(str(tmp_path)), limit_train_batches=20)
    trainer.fit(classifier, data)

    with torch.no_grad():
        shares = classifier.eval()(data.preprocess(data.test_set.tensors[0])).softmax(dim=1)
    labels: Any = data.test_set.tensors[1]
    wrong = [i for i in range(10_000) if shares[i].argmax() != labels[i]]
    wrong.sort(key=lambda i: -float(shares[i].max()))
    predicted = [CLASS_NAMES[int(shares[i].argmax())] for i in wrong]
    expected = [f"{i}: {CLASS_NAMES[labels[i]]}\n→ {name}" for i, name in zip(wrong, predicted, strict=True)]
    # Ties in the seventh digit may be in another order.
    assert set(shown[0][:40]) <= set(expected[:60])
    assert len(shown[0]) == 48
    for name in ("confusion", "mistakes"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 500
