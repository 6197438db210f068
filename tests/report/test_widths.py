"""The page of a report in a browser: nothing but a wide table moves sideways, on any screen and on paper."""

from __future__ import annotations

import pytest

from m3dllm.report import write_report
from tests.viewer.browser import Browser


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    paths = [runs / name for name in ("best", "singles0", "singles1", "thirds")]
    return write_report(paths, tmp_path_factory.mktemp("report"), pages=False, figures=False, resamples=50)


@pytest.fixture(params=[1200, 800, 390])
def opened(request, browser, report) -> Browser:
    browser.resize(request.param, 900)
    browser.driver.get(report.as_uri())
    browser.driver.execute_script("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    return browser


def test_the_page_does_not_scroll_sideways(opened):
    assert opened.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_every_figure_is_shown_once_at_its_own_size_in_its_column(opened):
    figures = opened.run("""[...document.querySelectorAll('figure.drawing')].map((figure) => {
        const shown = [...figure.querySelectorAll('svg')].filter((svg) => svg.getClientRects().length);
        const { clientWidth } = figure;
        return shown.map((svg) => [svg.clientWidth === svg.viewBox.baseVal.width, svg.clientWidth <= clientWidth]);
    })""")
    assert figures
    assert all(of == [[True, True]] for of in figures)


def test_only_tables_scroll(opened):
    wide = opened.run("""[...document.querySelectorAll('main *')].filter((e) => e.scrollWidth > e.clientWidth + 1
        && getComputedStyle(e).overflowX !== 'visible').map((e) => e.className)""")
    assert set(wide) <= {"scroll"}


def test_the_average_stays_in_sight_beside_wide_tables(browser, report):
    browser.resize(1000, 900)
    browser.driver.get(report.as_uri())
    right = browser.run("document.querySelector('td.keep').getBoundingClientRect().right")
    assert right <= 1000


def test_no_table_is_cut_off_on_paper(browser, report):
    """A4, less its margins, is 703 units wide."""
    browser.driver.get(report.as_uri())
    browser.resize(703, 900)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.driver.execute_script("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    over = browser.run(
        "Math.max(...[...document.querySelectorAll('table')].map((t) => t.getBoundingClientRect().right))"
    )
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert over <= 703


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1200, "dark")])
def test_axe_finds_no_barrier(browser, report, width, theme):
    browser.resize(width, 900, theme=theme)
    browser.driver.get(report.as_uri())
    assert browser.barriers() == []
