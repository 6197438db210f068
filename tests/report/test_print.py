"""A report of seven systems on paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from m3dllm.report import write_report
from tests.report.reading import change, edit

SYSTEMS = ("dffm", "i2srm", "mdocre-hn-like", "tiger", "two-streams-video-swin", "umie", "video-llm")


@pytest.fixture(scope="module")
def seven(runs, tmp_path_factory) -> Path:
    """The report of seven systems that are ever worse, beside a paper and a baseline: all that it can hold."""
    folder = tmp_path_factory.mktemp("seven")
    for n, name in enumerate(SYSTEMS):
        run = shutil.copytree(runs / "best", folder / name)
        edit(run, "run.json", system=name)
        for lang in ("en", "zh"):
            change(run, lang, "end_to_end", "entity", 1 - n / 10)
    paths = [folder / name for name in SYSTEMS]
    return write_report(
        paths, folder / "report", paper="m3d", baseline="umie", pages=False, figures=False, resamples=50
    )


@pytest.fixture
def printed(browser, seven):
    """The report as it is laid out for paper: A4, less its margins, is 703 units wide."""
    browser.resize(703, 900)
    browser.driver.get(seven.as_uri())
    yield browser
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_seven_systems_in_two_languages_and_settings_take_fewer_than_ten_pages(printed):
    assert printed.texts("section > h3") == ["End to end", "Gold mentions and chains"] * 2
    assert 4 < printed.pages() < 10


def test_every_table_is_whole_on_its_page(printed):
    printed.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    tables = printed.run("""[...document.querySelectorAll("figure.table")].filter((t) => t.getClientRects().length)
        .map((t) => [getComputedStyle(t).breakInside, t.getBoundingClientRect().height])""")
    assert len(tables) >= 7
    assert all(rule == "avoid" and height < 1000 for rule, height in tables)  # of 1032


def test_a_chart_that_was_seen_first_is_not_printed_again(printed):
    assert printed.run("document.querySelectorAll('.drawing.again').length") == 2
    printed.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = """[...document.querySelectorAll(".drawing")].filter((figure) => figure.getClientRects().length
        && figure.textContent.includes("F1, percent")).map((figure) => figure.id)"""
    assert printed.run(shown) == ["f-glance-1", "f-glance-2", "f-corpus-test-en-gold-f1", "f-corpus-test-zh-gold-f1"]
