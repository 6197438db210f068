"""Runs, their page, and a browser to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from m3dllm.runs import Run
from m3dllm.viewer import write_pages
from tests.viewer.browser import Browser
from tests.viewer.documents import corpus, replay, wrong_lines


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> list[Run]:
    """`right` repeats the gold, in every pass; `wrong` is wrong in known ways."""
    folder = tmp_path_factory.mktemp("page-runs")
    root = corpus(folder / "corpus")
    return [
        replay(root, root / "test.jsonl", folder / "right", pairs="both"),
        replay(root, wrong_lines(), folder / "wrong"),
    ]


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory) -> Path:
    return write_pages(runs, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    pytest.importorskip("selenium", reason="needs selenium to drive chromium")
    browser = Browser(binary, driver, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium) -> Iterator[Browser]:
    """A wide, light window; a test fails where the page logged an error."""
    chromium.resize(1400, 1000)
    yield chromium
    assert chromium.errors() == []


@pytest.fixture
def opened(browser, page) -> Callable[..., Browser]:
    """The page at an address: `opened(document="zh-1", select=2)`."""

    def at(**words: object) -> Browser:
        browser.open(page, **words)
        return browser

    return at
