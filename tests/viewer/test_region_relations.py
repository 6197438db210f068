"""Relations with regions on the page: in the list, in the graph, and what lights up."""

from __future__ import annotations

import pytest

from m3dllm.scored import read_run
from m3dllm.viewer import write_pages
from m3dllm.viewer.content import cases, document_content
from m3dllm.viewer.thumbnails import Thumbnails
from tests.holding import ELSEWHERE, EXAMPLES, corpus, said
from tests.viewer.test_content import NO_VIDEOS


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("holding")
    root = corpus(folder / "corpus")
    return [said(root, EXAMPLES, folder / "right"), said(root, ELSEWHERE, folder / "wrong")]


@pytest.fixture(scope="module")
def contents(runs):
    found = cases([read_run(run.path) for run in runs])
    return {c.document.id: document_content(c, Thumbnails(None), NO_VIDEOS, gold=True) for c in found}


@pytest.fixture
def page(runs, browser, tmp_path_factory):
    file = write_pages(runs, tmp_path_factory.mktemp("page"))

    def at(**words: object):
        browser.open(file, **words)
        return browser

    return at


@pytest.mark.parametrize("name", ["en-1", "zh-1"])
def test_a_region_that_a_relation_names_has_one_number_on_every_side(contents, name):
    content = contents[name]
    (cup,) = [entity for entity in content["entities"] if entity.get("frame") == 0 and entity["number"] == 3]
    assert (cup["name"], cup["type"]) == ("cup in frame 0", "cup")
    gold, right, _ = content["sides"]
    assert gold["relations"][0]["tail"] == right["relations"][0]["tail"] == 3
    assert [region.get("number") for region in gold["regions"]] == [None, 3, None]


def test_a_region_elsewhere_is_another_and_its_relation_spurious(contents):
    wrong = contents["en-1"]["sides"][2]
    assert [(r["tail"], r["verdict"]) for r in wrong["relations"]] == [(4, "spurious"), (2, "hit")]
    assert [(r["tail"], r["row"]) for r in wrong["missed"]["relations"]] == [(3, "g0")]


def test_a_document_without_anything_has_no_regions(contents):
    assert contents["nothing"]["entities"] == []


@pytest.mark.parametrize(("name", "who"), [("en-1", "1 Ada"), ("zh-1", "1 苏珊")])
def test_a_relation_with_a_region_stands_in_the_list(page, name, who):
    row = 'main tr[data-r="g0"] td:not(.side)'
    assert page(document=name).texts(row) == [who, "3 cup in frame 0"]


def test_a_region_is_a_square_in_the_graph(page):
    opened = page(document="en-1")
    assert opened.run("""document.querySelectorAll('.graph .node[data-e="3"] rect').length""") == 3
    assert opened.run("""document.querySelectorAll('.graph .node[data-e="1"] circle').length""") == 3
    label = opened.run("""document.querySelector('.graph').getAttribute("aria-label")""")
    assert "2 relations of gold between 2 entities and 1 region" in label


def test_selecting_a_relation_lights_up_its_box_and_its_chain(page):
    opened = page(document="en-1", select="g0")
    boxes = opened.run("[...document.querySelectorAll('.strip .box.lit')].map((box) => box.dataset.e)")
    assert boxes.count("3") == 2
    assert set(opened.texts('main .text .cell[data-side="gold"] .lit')) == {"Ada", "1", "She"}


def test_selecting_a_region_says_which_side_has_it(page):
    opened = page(document="en-1", select=3)
    assert "gold: 1 box · right: 1 box · wrong: 0 boxes" in opened.texts("#selected")[0]
    assert opened.run("document.querySelectorAll('.strip .box.lit').length") == 2


def test_the_page_has_no_barriers(page):
    for theme in ("light", "dark"):
        opened = page(document="en-1", select="g0")
        opened.resize(1400, 1000, theme=theme)
        assert opened.barriers() == []
