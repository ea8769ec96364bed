"""Where the callbacks' figures go: a file in the run's folder, and an image in TensorBoard."""

from pathlib import Path

import lightning as L
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fashion_vgg import atomic
from fashion_vgg.training import tensorboard

DPI = 150


def write(trainer: L.Trainer, name: str, figure: Figure, step: int, folder: Path | None = None) -> None:
    """Write a figure as ``<folder>/<name>.png`` and as ``plots/<name>`` in TensorBoard.

    Args:
        trainer: whose TensorBoard loggers get the image.
        name: of the file and of the image.
        figure: drawn once for both; ``savefig`` and ``SummaryWriter.add_figure`` draw it three times.
        step: of the image in TensorBoard.
        folder: created if it is missing; None writes to TensorBoard alone.
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic.writing(folder / f"{name}.png") as file:
            image.save(file, format="png", dpi=(DPI, DPI))
    for writer in tensorboard.writers(trainer):
        writer.add_image(f"plots/{name}", np.asarray(image), step, dataformats="HWC")
