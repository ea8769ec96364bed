"""The page of ``fashion-vgg serve``: a picture in; its classes, Grad-CAM and feature maps out. Requires gradio.

Nothing on the page comes from another host: its theme uses the system's fonts.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from gradio.utils import get_upload_folder
from matplotlib import colormaps
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from fashion_vgg.analysis import inside
from fashion_vgg.errors import UserError
from fashion_vgg.inference import pictures
from fashion_vgg.inference.pictures import Background, Picture
from fashion_vgg.inference.predictor import Predictor

SIDE = 280
"""Height and width in pixels of the images that the page shows: ten times those of the data set."""
CHANNELS, COLUMNS = 16, 4
"""Of the grid of feature maps."""
TILE = 96  # the least height and width of a feature map in the grid, in pixels
MAX_FILE_SIZE = "20mb"
HOUR, DAY = 3600, 86_400

UPLOAD: dict[str, Any] = {"image_mode": None, "height": 300, "buttons": []}
SKETCHPAD: dict[str, Any] = {
    **{"canvas_size": (360, 360), "height": 460, "layers": False, "transforms": (), "buttons": []},
    "brush": gr.Brush(default_size=30, colors=["#000000"], color_mode="fixed"),
}
FONTS = [gr.themes.Font(name) for name in ("system-ui", "sans-serif")]
STYLE = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
#picture, .pixels { padding-top: 26px !important; }
#picture img { width: 100%; height: 100%; object-fit: contain; }
#classes { min-height: 284px; }
.pixels img { image-rendering: pixelated; }
"""


def build(network: Predictor, background: Background, examples: Sequence[Path]) -> gr.Blocks:
    """Build the page.

    Args:
        network: classifies the pictures.
        background: of the pictures, until it is changed on the page.
        examples: files to click on.
    """
    inspector = _Inspector(network)
    blocks = gr.Blocks(analytics_enabled=False, title="fashion-vgg", delete_cache=(HOUR, DAY))
    with blocks:
        gr.Markdown(_introduction(network))
        with gr.Row():
            with gr.Column(scale=5, min_width=380):
                with gr.Tab("Picture"):
                    picture = gr.Image(label="Drop, paste or photograph a picture", elem_id="picture", **UPLOAD)
                    choice = gr.Radio(["auto", "dark", "light"], value=background, label="Background of the picture")
                    if examples:
                        files = [[str(file)] for file in examples]
                        gr.Examples(files, picture, label="Images of the test set", api_visibility="private")
                with gr.Tab("Drawing"):
                    drawing = gr.Sketchpad(label="Draw a filled shape", type="pil", **SKETCHPAD)
            with gr.Column(scale=6, min_width=380):
                outputs: list[Any] = [gr.Label(label="Classes", num_top_classes=5, elem_id="classes")]
                with gr.Row():
                    outputs += map(_image, inspector.views)
        if inspector.blocks:
            with gr.Accordion(f"Feature maps: the {CHANNELS} strongest channels of each block"), gr.Row():
                outputs += map(_image, inspector.blocks)
        settings: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        # Without gradio's preprocessing, which would fail at a file that is no picture.
        changes = [picture.change, choice.change]
        gr.on(changes, inspector.file, [picture, choice], outputs, preprocess=False, **settings)
        drawing.change(inspector.drawing, drawing, outputs, trigger_mode="always_last", **settings)
    return blocks


@contextmanager
def serving(blocks: gr.Blocks, host: str, port: int, open_browser: bool) -> Iterator[str]:
    """Serve a page in a thread of its own; yields the address. At the end, it does not wait for open connections."""
    unwanted: dict[str, Any] = dict.fromkeys(("share", "ssr_mode", "mcp_server", "enable_monitoring"), False)
    try:
        _, address, _ = blocks.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=MAX_FILE_SIZE,
            footer_links=[],
            theme=gr.themes.Default(primary_hue="blue", secondary_hue="blue", font=FONTS, font_mono=FONTS),
            css=STYLE,
            app_kwargs={"openapi_url": None},
            **unwanted,
        )
        yield address.rstrip("/")
    finally:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # or it logs that its own tasks were cancelled
        if blocks.is_running:
            blocks.server.force_exit = True
            blocks.close(verbose=False)


class _Inspector:
    """What the page shows of a network: the callbacks of its events.

    Attributes:
        views: the titles of the pictures below the classes.
        blocks: the titles of the pictures of feature maps; none for a network without blocks.
    """

    def __init__(self, network: Predictor) -> None:
        self.network = network
        self.views, self.blocks = ["What the network receives"], list[str]()
        self._lock = threading.Lock()  # hooks read the network's layers, and gradio calls from several threads
        with suppress(UserError):
            maps = inside.feature_maps(network.net, network.preprocess(torch.zeros(1, 28, 28, dtype=torch.uint8)))
            shapes = [block.shape[1:] for block in maps]
            self.blocks = [f"Block {i}: {c} channels, {h}x{w} px" for i, (c, h, w) in enumerate(shapes, start=1)]
        if self.blocks and find_spec("captum"):
            self.views.append("Grad-CAM of the predicted class")
        self._nothing = [None] * (1 + len(self.views) + len(self.blocks))

    def file(self, file: dict[str, Any] | None, background: Background) -> Sequence[Any]:
        """Classify an uploaded file, as gradio describes it."""
        if not file or not _is_uploaded(file.get("path")):
            return self._nothing
        name = file.get("orig_name") or "The picture"
        return self._show(file["path"], background, name)

    def drawing(self, drawing: dict[str, Any] | None) -> Sequence[Any]:
        """Classify what the sketchpad shows on its white background."""
        if not drawing or not any(layer.getbbox() for layer in drawing["layers"]):
            return self._nothing
        return self._show(drawing["composite"], "light", "The drawing")

    def _show(self, picture: Picture, background: Background, name: str) -> Sequence[Any]:
        try:
            image = pictures.read(picture, background)
        except UserError as error:
            gr.Warning(str(error).replace(str(picture), name))
            return self._nothing
        with self._lock:
            return list(self._values(image))

    def _values(self, image: Tensor) -> Iterator[Any]:
        """The values of the page's outputs for an image, uint8 ``(28, 28)``."""
        images, net = image[None], self.network.net
        probabilities = self.network.probabilities(images)
        yield dict(zip(self.network.classes, probabilities[0].tolist(), strict=True))
        received = Image.fromarray(image.numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        yield received
        inputs = self.network.preprocess(images)
        if len(self.views) > 1:
            yield _overlay(received, inside.grad_cam(net, inputs, probabilities.argmax(dim=1))[0])
        if self.blocks:
            yield from (_grid(maps[0]) for maps in inside.feature_maps(net, inputs))


def _is_uploaded(path: Any) -> bool:
    """Whether a file is in gradio's folder: a request may name any path, which this callback would read."""
    return isinstance(path, str) and Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())


def _overlay(image: Image.Image, cam: Tensor) -> Image.Image:
    """A grey image in the colours of a map in [0, 1], ``(H, W)``, where the map is not 0."""
    heat = np.asarray(Image.fromarray(cam.numpy()).resize(image.size, Image.Resampling.BILINEAR))
    colours, weight = colormaps["jet"](heat)[..., :3] * 255, 0.6 * heat[..., np.newaxis]
    grey = np.asarray(image)[..., np.newaxis]
    return Image.fromarray((grey * (1 - weight) + colours * weight).round().astype(np.uint8))


def _grid(maps: Tensor) -> Image.Image:
    """The `CHANNELS` feature maps ``(C, H, W)`` with the largest mean, each scaled to its own range."""
    strongest = maps[maps.mean(dim=(1, 2)).argsort(descending=True)[:CHANNELS]]
    low, high = (bound(strongest, dim=(1, 2), keepdim=True) for bound in (torch.amin, torch.amax))
    coloured = torch.from_numpy(colormaps["magma"](((strongest - low) / (high - low).clamp(min=1e-12)).numpy()))
    factor = max(1, TILE // maps.shape[-1])  # whole, so that all pixels are equally large
    tiles = coloured[..., :3].permute(0, 3, 1, 2).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    grid = make_grid(tiles, nrow=COLUMNS, padding=4, pad_value=1.0)
    return Image.fromarray((grid.permute(1, 2, 0) * 255).round().byte().numpy())


def _image(title: str) -> gr.Image:
    return gr.Image(label=title, format="png", interactive=False, buttons=["fullscreen"], elem_classes="pixels")


def _introduction(network: Predictor) -> str:
    parameters = sum(parameter.numel() for parameter in network.net.parameters())
    accuracy = network.card["metrics"].get("test/acc")
    size = f"{parameters:,} parameters" + (f", test accuracy {accuracy:.3f}" if accuracy else "")
    return f"""# fashion-vgg

A picture of one article of clothing on a plain background is converted to the format of Fashion-MNIST, 28x28 pixels,
light on black, and classified by {type(network.net).__name__} ({size})."""
