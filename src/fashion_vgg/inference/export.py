"""Writes a network for other programs: as weights, for ONNX Runtime, or for `torch.export.load`.

A file appears only after it was loaded again, and its weights or its outputs were compared with the network's.
"""

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from timeit import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fashion_vgg import atomic
from fashion_vgg.checkpoints import published
from fashion_vgg.checkpoints.published import Card
from fashion_vgg.data.transforms import Preprocess
from fashion_vgg.errors import TrainingError
from fashion_vgg.inference import model_card
from fashion_vgg.inference.exportable import ExportablePreprocess

TOLERANCE = 1e-4
"""The largest accepted difference between two logits: float32 arithmetic in another order."""
OPSET = 20
BATCH = 32
"""Images that are compared and timed at once: at 224 px, the maps of more take gigabytes."""
Forward = Callable[[Tensor], Tensor]


class Check(NamedTuple):
    """An exported file against the network, on real images."""

    difference: float
    images_per_sec: float
    network_images_per_sec: float


def write(
    net: nn.Module, card: Card, test_images: Callable[[], Tensor], path: Path, kind: str, preprocess: bool
) -> Check | None:
    """Export a network.

    Args:
        net: in evaluation mode.
        card: its description, which is stored in the file's metadata.
        test_images: reads images of the test set, uint8 ``(N, 28, 28)``, for the comparison.
        path: of the new file.
        kind: ``safetensors``, ``onnx`` or ``torch_export``; the last two compute in float32.
        preprocess: the exported network takes uint8 ``(N, 28, 28)`` and preprocesses them, instead of float32
            ``(N, channels, image_size, image_size)``. Ignored for ``safetensors``.

    Returns:
        The comparison, or None for ``safetensors``, whose weights are equal.

    Raises:
        ModuleNotFoundError: a package of the extra ``onnx`` is not installed.
        TrainingError: the outputs differ by more than `TOLERANCE`; no file is written.
    """
    card = {key: value for key, value in card.items() if key in model_card.KEYS}
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        file = Path(folder, path.name)
        if kind == "safetensors":
            published.write(file, net.state_dict(), card)
            published.read(file)
            result = None
        else:
            result = _write_program(net.float(), card, test_images(), file, kind, preprocess)
            if not result.difference <= TOLERANCE:  # also if it is NaN
                problem = f"its outputs differ by {result.difference:.1e} from the network's, more than {TOLERANCE:.0e}"
                raise TrainingError(f"{path} was not written: {problem}.")
        atomic.write(path, file.read_bytes())
    return result


def _write_program(net: nn.Module, card: Card, images: Tensor, file: Path, kind: str, preprocess: bool) -> Check:
    # In another memory format, torch.export takes the weights for incomplete.
    net = net.to(memory_format=torch.contiguous_format)
    prepare = Preprocess(**card["preprocessing"])
    model = nn.Sequential(ExportablePreprocess(prepare), net).eval() if preprocess else net
    inputs = images if preprocess else prepare(images)
    shape = ", ".join(map(str, inputs.shape[1:]))
    pixels = "from 0 (black) to 255" if preprocess else "divided by 255, less the mean, divided by the std"
    dtype = str(inputs.dtype).removeprefix("torch.")
    card = card | {
        "input": f"{dtype} (N, {shape}), pixels {pixels}, the article light on black",
        "output": f"logits, float32 (N, {len(card['classes'])})",
    }
    exported = (_to_onnx if kind == "onnx" else _to_torch_export)(model, inputs, card, file)
    return _compare(exported, inputs, lambda x: net(prepare(x)) if preprocess else net(x))


def _to_onnx(model: nn.Module, inputs: Tensor, card: Card, file: Path) -> Forward:
    import onnx
    import onnxruntime

    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)
    program: Any = torch.onnx.export(
        model,
        (inputs[:2].clone(),),  # a slice would be stored with the whole batch
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {key: _text(value) for key, value in card.items()})
    onnx.save(proto, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def _to_torch_export(model: nn.Module, inputs: Tensor, card: Card, file: Path) -> Forward:
    program = torch.export.export(model, (inputs[:2].clone(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, file, extra_files={"model_card.json": json.dumps(card)})
    loaded: Forward = torch.export.load(file).module()
    return loaded


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@torch.no_grad()
def _compare(exported: Forward, inputs: Tensor, network: Forward) -> Check:
    parts = [*torch.split(inputs, BATCH), inputs[:1]]
    differences = torch.stack([(exported(part) - network(part)).abs().max() for part in parts])
    return Check(float(differences.max()), *(_images_per_sec(forward, parts[0]) for forward in (exported, network)))


def _images_per_sec(forward: Forward, inputs: Tensor) -> float:
    return len(inputs) / min(repeat(lambda: forward(inputs), number=1, repeat=5))
