"""A headless Chromium for the tests that look at HTML pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; without it, skip the tests, or fail them on CI."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        reason = "Chromium is missing: install it (on Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # The sandbox works neither as root nor in containers without user namespaces.
        browser = playwright.chromium.launch(executable_path=executable, chromium_sandbox=False)
        yield browser
        browser.close()


@contextmanager
def open_page(width: int) -> Iterator[Page]:
    """A new page in a Chromium of its own, which waits up to a minute for what is expected of it."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
