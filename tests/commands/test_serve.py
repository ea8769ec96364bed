"""`fashion-vgg serve` in a real browser: what the page shows of a test image, and how the command ends."""

import io
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Request, expect

import fashion_vgg as package
from fashion_vgg.data import fashion_mnist
from tests.conftest import Command
from tests.helpers.browser import open_page
from tests.processes.process import Process

ANKLE_BOOT = 0
"""The first test image, which is clearly an ankle boot."""
EXTERNAL = re.compile(r"""(?:\b(?:src|href)=|@import|\burl\()\s*["']?(?:https?:)?//[^"')]+""")
"""What HTML and CSS load from another host."""


@pytest.fixture
def server(fashion_vgg: Command, data_root: Path) -> Process:
    """The command, ready for requests."""
    process = fashion_vgg.start("serve", "port=0", "weights=speedrun", f"data.root={data_root}")
    process.wait_until(lambda: "\n" in process.stdout)
    return process


def address(server: Process) -> str:
    [found] = re.findall(r"Serving on (http://127\.0\.0\.1:\d+) ", server.stdout)
    return str(found)


@pytest.fixture
def boot(data_root: Path, tmp_path: Path) -> Path:
    images, labels = fashion_mnist.load(data_root, "test")
    assert fashion_mnist.CLASS_NAMES[labels[ANKLE_BOOT]] == "ankle boot"
    Image.fromarray(images[ANKLE_BOOT].numpy()).save(tmp_path / "boot.png")
    return tmp_path / "boot.png"


@pytest.fixture
def page() -> Iterator[Page]:
    with open_page(1280) as page:
        yield page


def upload(page: Page, path: Path) -> None:
    page.locator("#picture input[type=file]").set_input_files(path)


def picture(page: Page, title: str) -> Image.Image:
    """The picture below a title."""
    source = page.locator(".pixels").filter(has_text=title).locator("img").get_attribute("src")
    assert source is not None
    return Image.open(io.BytesIO(page.request.get(source).body()))


@pytest.mark.thorough
def test_the_page_shows_classes_image_grad_cam_and_feature_maps(
    server: Process, page: Page, boot: Path, tmp_path: Path
) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address(server))
    heading, classes = page.get_by_test_id("label-output-value"), page.locator("#classes")

    upload(page, boot)
    [prediction] = package.load("speedrun").predict(boot)
    expect(heading).to_have_text("ankle boot")
    assert prediction.classes[0] == "ankle boot"
    for name, probability in zip(prediction.classes[:5], prediction.probabilities[:5], strict=True):
        expect(classes).to_contain_text(re.compile(rf"{name}\s*{probability * 100:.0f}%"))
    received = picture(page, "What the network receives").resize((28, 28), Image.Resampling.NEAREST)
    assert np.array_equal(np.asarray(received.convert("L")), np.asarray(Image.open(boot)))
    heat = np.asarray(picture(page, "Grad-CAM").convert("RGB")).astype(int)
    assert np.ptp(heat, axis=2).max() > 100  # coloured, unlike the image
    for block in ("Block 1: 32 channels, 14x14 px", "Block 2: 64 channels, 7x7 px", "Block 3: 128 channels, 3x3 px"):
        assert min(picture(page, block).size) > 300
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1000)
        page.screenshot(path=Path(folder, "serve.png"))

    (tmp_path / "text.png").write_text("no picture")
    page.locator("#picture").get_by_role("button", name=re.compile("Clear|Remove")).click()
    expect(heading).to_have_count(0)
    upload(page, tmp_path / "text.png")
    expect(page.get_by_text("text.png: not a picture")).to_be_visible()

    page.locator(".gallery-item").nth(1).click()  # an example of the second class
    expect(heading).to_have_text("trouser")
    draw_a_filled_square(page)
    expect(heading).not_to_have_text("trouser")

    assert {urlsplit(url).netloc for url in requested} == {urlsplit(address(server)).netloc}
    stop(server, signal.SIGTERM, 143)


def stop(server: Process, signum: signal.Signals, status: int) -> None:
    server.send_signal(signum)
    done = server.result(30)
    # The tests show all warnings, also ResourceWarnings about event loops of gradio.
    first, *_, last = done.stderr.splitlines()
    assert (done.returncode, first[:9], last) == (status, "Weights: ", f"Stopped by {signum.name}.")
    assert "Traceback" not in done.stderr


def draw_a_filled_square(page: Page) -> None:
    page.get_by_role("tab", name="Drawing").click()
    page.get_by_role("button", name="Brush").click()
    area = page.locator("canvas").first.bounding_box()
    assert area is not None
    left, top = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    for row in range(-60, 60, 15):
        page.mouse.move(left - 60, top + row)
        page.mouse.down()
        page.mouse.move(left + 60, top + row, steps=4)
        page.mouse.up()


@pytest.mark.long
def test_a_request_cannot_read_files_that_were_not_uploaded(server: Process, page: Page, boot: Path) -> None:
    joined: list[Any] = []

    def keep(request: Request) -> None:
        if "/queue/join" in request.url:
            joined.append(request.post_data_json)

    page.on("request", keep)
    page.goto(address(server))
    upload(page, boot)
    expect(page.get_by_test_id("label-output-value")).to_have_text("ankle boot")
    [(uploaded, background)] = [request["data"] for request in joined if len(request["data"]) == 2][-1:]
    # With gradio's mark of an upload, gradio refuses them itself.
    files = [uploaded, {"path": str(boot)}, {"path": f"{uploaded['path']}/../../../{boot}"}]
    answers = [
        ask(page, server, joined[-1] | {"data": [file, background], "session_hash": f"{n}"})
        for n, file in enumerate(files)
    ]
    assert ["ankle boot" in answer for answer in answers] == [True, False, False]
    stop(server, signal.SIGTERM, 143)


def ask(page: Page, server: Process, request: dict[str, Any]) -> str:
    """The answer to a request that the page could make."""
    assert page.request.post(f"{address(server)}/gradio_api/queue/join", data=request).ok
    answer = page.request.get(f"{address(server)}/gradio_api/queue/data?session_hash={request['session_hash']}")
    assert "process_completed" in answer.text()
    return answer.text()


@pytest.mark.long
def test_nothing_comes_from_another_host_and_ctrl_c_ends_it(server: Process) -> None:
    url = address(server)
    for path in ("", "/theme.css"):
        with urllib.request.urlopen(url + path) as response:  # noqa: S310
            assert EXTERNAL.findall(response.read().decode()) == []
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as connection:
        # A browser's open connection, which must not delay the end.
        connection.sendall(b"GET /gradio_api/heartbeat/test HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        stop(server, signal.SIGINT, 130)


def test_a_port_in_use_is_one_line(fashion_vgg: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = fashion_vgg("serve", f"port={port}")
    problem = f"port={port} is in use: choose another one, such as port={port % 65_535 + 1}.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", problem)


def test_an_address_of_another_computer_is_one_line(fashion_vgg: Command) -> None:
    done = fashion_vgg("serve", "host=192.0.2.1")  # reserved for documentation (RFC 5737)
    problem = "host=192.0.2.1 port=7860: cannot listen there (Cannot assign requested address).\n"
    assert (done.returncode, done.stderr) == (2, problem)


def test_missing_gradio_is_one_line(fashion_vgg: Command) -> None:
    done = fashion_vgg("serve", "port=0", without="gradio")
    assert (done.returncode, done.stderr) == (2, "gradio is not installed: pip install 'fashion-vgg[serve]'.\n")
