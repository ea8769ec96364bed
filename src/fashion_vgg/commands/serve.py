"""``fashion-vgg serve``: the network in a browser, on this computer alone by default."""

import errno
import os
import socket
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

import hydra
from omegaconf import DictConfig

from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.errors import UserError
from fashion_vgg.inference import sources


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="serve")
@reported_errors("serve")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    weights, port = sources.find(cfg.weights), free_port(cfg.host, cfg.port)
    with tempfile.TemporaryDirectory(prefix="fashion-vgg-") as folder:
        configure_gradio(folder, cfg.host)
        from fashion_vgg.inference import page, predictor
        from fashion_vgg.training import build

        build.configure_lightning_logging()
        network = predictor.load(weights)
        print(network.origin, file=sys.stderr)
        if find_spec("captum") is None:
            print("captum is not installed: pip install 'fashion-vgg[analyze]' adds Grad-CAM.", file=sys.stderr)
        blocks = page.build(network, cfg.background, write_examples(Path(cfg.data.root).expanduser(), Path(folder)))
        with page.serving(blocks, cfg.host, port, cfg.open_browser) as address:
            print(f"Serving on {address} (Ctrl-C ends it)", flush=True)
            threading.Event().wait()  # until a signal raises `Stopped`


def free_port(host: str, port: int) -> int:
    """The port, or for 0 any free one; UserError if the command cannot listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a server has just left is free
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port={port} is in use: choose another one, such as port={port % 65_535 + 1}.") from error
        raise UserError(f"host={host} port={port}: cannot listen there ({error.strerror}).") from error


def configure_gradio(folder: str, host: str) -> None:
    """Set the environment variables that gradio reads when it is imported."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False", "GRADIO_TEMP_DIR": folder}
    for name in ("NO_PROXY", "no_proxy"):  # gradio checks that its server answers
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host, "localhost")))


def write_examples(root: Path, folder: Path) -> list[Path]:
    """Write an image of each class from the test set as ``<class>.png``; none if the data set is not available."""
    from PIL import Image

    from fashion_vgg.data import fashion_mnist

    try:
        images, labels = fashion_mnist.load(root, "test")
    except UserError as error:
        print(f"The page has no examples: {error}", file=sys.stderr)
        return []
    files = [folder / f"{name}.png" for name in fashion_mnist.CLASS_NAMES]
    for label, file in enumerate(files):
        Image.fromarray(images[labels == label][0].numpy()).save(file)
    return files
