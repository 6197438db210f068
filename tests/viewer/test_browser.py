"""The page in a real browser: what a reader sees and does."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from m3dllm.types import TASKS, Annotation
from m3dllm.viewer import write_pages
from m3dllm.viewer.html import embedded, index_page, json_for_html
from tests.viewer.documents import EN, EXAMPLES, bare, corpus, replay, wrong_lines

DOCUMENTS = ["en-1", "no-frames", "no-text", "nothing", "zh-1"]
"""As they are listed: by name."""
CHOOSE = """(() => { const s = document.getElementById(arguments[0]); s.value = arguments[1];
    s.dispatchEvent(new Event("change")); return true; }).apply(null, arguments)"""


def lit(browser, where: str) -> list[str]:
    """The texts of what is lit in a part of the page."""
    return browser.texts(f"main {where} .lit")


# --- a document ---


def test_the_first_document_stands_there_with_a_column_a_side(opened):
    page = opened()
    assert page.document() == "en-1"
    assert page.texts(".heads b") == ["gold", "right", "wrong"]
    assert page.texts("main h2") == ["Verdicts", "Text", "Time", "Frames", "Relations", "Entities"]


def test_every_column_has_the_whole_text(opened):
    page = opened()
    script = """arguments[0].map((side) => [...document.querySelectorAll(`.text .cell[data-side="${side}"]`)]
          .map((cell) => {
            const copy = cell.cloneNode(true);
            copy.querySelectorAll(".tag").forEach((tag) => tag.remove());
            return copy.textContent;
          }).join(" "))"""
    assert page.run(script, ["gold", "right", "wrong"]) == [EN, EN, EN]


def test_segments_have_their_times(opened):
    assert opened().texts(".text time") == ["0:04", "1:05"]


def test_what_is_wrong_is_marked(opened):
    page = opened()
    of = {side: page.texts(f'.text .tag[data-side="{side}"]') for side in ("gold", "right", "wrong")}
    assert of["gold"] == of["right"] == ["1", "2", "3", "1", "3"]
    assert of["wrong"] == ["+4", "1", "≠2", "−2", "3", "−1", "3"]


def test_overlapping_mentions_have_a_line_each(opened):
    page = opened()
    script = """[...document.querySelectorAll('.text .cell[data-side="wrong"] .piece')].slice(0, 2)
        .map((piece) => [piece.textContent, piece.style.backgroundSize.split(",").length - 1])"""
    assert page.run(script) == [["Ada ", 1], ["King", 2]]


def test_the_counts_are_shown_by_task(opened):
    cells = opened().texts(".summary .cell:nth-child(4n) .counts")
    assert cells == ["✓ 3 − 2 + 1 ≠ 1 ", "✓ 2 − 1 + 1 ◐ 1 ", "✓ 1 − 1 + 1 ≠ 1 ", "✓ 1 − 1 + 1 "]


def test_relations_of_all_sides_stand_in_one_list(opened):
    page = opened()
    assert page.texts("main tr[data-r] .link") == [
        "PER-LOC_birth",
        "PER-PER_couple",
        "PER-LOC_birth",
        "PER-LOC_birth",
    ]
    last = page.run("""[...document.querySelectorAll('main tr[data-r="g1"] td.side')].map((td) => td.textContent)""")
    assert last == ["●gold", "✓true positive", "−missed"]


def test_every_mention_shows_its_type(opened):
    script = (
        """[...document.querySelectorAll('.text .tag[data-side="wrong"] .kind')].map((kind) => kind.dataset.type)"""
    )
    assert opened().run(script) == ["PER", "PER", "LOC", "PER", "LOC", "PER", "LOC"]


def test_every_relation_of_a_graph_has_its_type_beside_and_none_covers_another(opened):
    page = opened()
    assert page.texts(".graph .type.shown") == [
        "birth",
        "couple",
        "birth",
        "couple",
        "birth",
        "− couple",
        "≠ birth",
        "+ birth",
    ]
    script = """[...document.querySelectorAll(".graph")].every((graph) => {
        const boxes = [...graph.querySelectorAll(".type.shown")].map((label) => label.getBoundingClientRect());
        return boxes.every((a, i) => boxes.slice(i + 1).every((b) =>
          a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top)); })"""
    assert page.run(script)


def test_labels_of_boxes_do_not_cover_one_another(opened):
    script = """[...document.querySelectorAll(".still")].every((still) => {
        const labels = [...still.querySelectorAll(".box .type:not(.aside)")];
        const boxes = labels.map((label) => label.getBoundingClientRect());
        return boxes.length > 1 && boxes.every((a, i) => boxes.slice(i + 1).every((b) =>
          a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top)); })"""
    assert opened().run(script)


def test_the_time_line_shows_when_entities_are_mentioned(opened):
    page = opened()
    assert page.texts(".time .line .name") == ["segments", "1 Ada King", "2 Bela", "3 Arles", ""]
    script = """[...document.querySelectorAll(".time .line[data-pick]")]
        .map((line) => line.querySelectorAll(".said").length)"""
    assert page.run(script) == [2, 1, 2]
    page.click('.time .line[data-pick="3"]')
    assert lit(page, ".time") == ["3 Arles"]


def test_frames_show_the_boxes_of_every_side_in_its_own_style(opened):
    page = opened()
    script = """[...document.querySelectorAll(".strip li:first-child .box")]
        .map((box) => [box.dataset.box, getComputedStyle(box).borderTopStyle])"""
    assert page.run(script) == [["gold", "solid"], ["0", "dashed"], ["1", "dotted"]]
    page.wait("[...document.querySelectorAll('.strip img')].every((img) => img.naturalWidth === 64)")


@pytest.mark.parametrize(
    ("name", "sections", "words"),
    [
        ("no-text", ["Verdicts", "Text", "Frames"], "No text."),
        ("no-frames", ["Verdicts", "Text", "Frames", "Relations", "Entities"], "No frames."),
        ("nothing", ["Verdicts"], "Neither text nor frames."),
    ],
)
def test_what_is_missing_is_reported(opened, name, sections, words):
    page = opened(document=name)
    assert page.texts("main h2") == sections
    assert any(text.startswith(words) for text in page.texts("main .empty"))


def test_a_frame_that_is_gone_has_a_placeholder(browser, runs, tmp_path):
    page = write_pages(runs, tmp_path)
    for thumbnail in (tmp_path / "thumbs").rglob("*.jpg"):
        thumbnail.unlink()
    browser.open(page)
    browser.wait("document.querySelectorAll('.strip .gone').length === 2")
    assert browser.texts(".strip .gone")[0] == "Frame 0the thumbnail is missing"
    assert all("ERR_FILE_NOT_FOUND" in message for message in browser.errors())


# --- selecting ---


def test_selecting_a_chain_lights_it_up_in_text_graph_tables_and_frames(opened):
    page = opened()
    page.click('.text .tag[data-side="gold"]')
    assert lit(page, '.cell[data-side="gold"]') == ["Ada King", "1", "Ada", "1"]
    assert lit(page, '.cell[data-side="wrong"]') == ["Ada ", "King", "1", "Ada", "−1"]
    assert page.texts("main .gutter.lit") == ["0:04", "1:05"]
    assert page.run("document.querySelectorAll('.graphs .node.lit').length") == 3
    assert page.run("[...document.querySelectorAll('.graphs .node.lit')].every((n) => n.dataset.e === '1')")
    assert page.run("[...document.querySelectorAll('.strip .box.lit')].map((box) => box.dataset.box)") == [
        "gold",
        "0",
        "1",
    ]
    assert "Ada King" in page.texts("#selected")[0]
    assert page.run("location.hash").endswith("select=1")


def test_selecting_it_again_or_escape_lets_go(opened):
    page = opened(select=1)
    assert lit(page, ".text")
    page.press("Escape")
    assert not lit(page, ".text")
    assert page.run("location.hash") == "#document=en-1"
    page.click('.text .tag[data-side="gold"]')
    page.click('.text .tag[data-side="gold"]')
    page.hover("main h1")
    assert not lit(page, ".text")


def test_hovering_lights_up_and_leaves_nothing_behind(opened):
    page = opened()
    page.hover('.text .cell[data-side="gold"] .piece[data-e="2"]')
    assert lit(page, ".text .cell") == ["Bela", "2", "Bela", "2", "Bela", "≠2", "−2"]
    page.hover("main h1")
    assert lit(page, "") == []


def test_a_link_opens_a_document_with_its_selection(opened):
    page = opened(document="zh-1", select=2)
    assert page.document() == "zh-1"
    assert lit(page, '.cell[data-side="gold"]') == ["北京", "2"]


def test_selecting_a_relation_lights_up_its_two_chains(opened):
    page = opened()
    page.click('main tr[data-r="g1"] .link')
    assert set(lit(page, '.cell[data-side="gold"]')) == {"Ada King", "1", "Bela", "2", "Ada"}
    assert page.run("document.querySelectorAll('.graphs .edge.lit .stroke').length") == 3
    assert page.run("[...document.querySelectorAll('.graphs .edge.lit')].every((e) => e.dataset.r === 'g1')")
    assert page.run("location.hash").endswith("select=g1")


def test_a_chain_is_selected_by_keyboard(opened):
    page = opened()
    page.run("document.querySelector('.text .tag').focus()")
    page.press("Enter")
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.press("n")
    assert page.run("location.hash").endswith("select=2")
    page.press("p")
    assert page.run("location.hash").endswith("select=1")


# --- walking, searching, filtering ---


def shows(page, name: str) -> bool:
    page.wait(f"document.querySelector('main .eyebrow .mono')?.textContent === '{name}'")
    return True


def test_documents_are_walked_by_keyboard(opened):
    page = opened()
    for name in DOCUMENTS[1:]:
        page.press("j")
        assert shows(page, name)
    page.press("j")
    assert shows(page, "zh-1")
    page.press("k")
    assert shows(page, "nothing")
    for _ in range(2):
        page.press("Left")
    assert shows(page, "no-frames")
    page.press("Right")
    assert shows(page, "no-text")
    page.press("k")
    assert shows(page, "no-frames")
    assert page.texts("#documents [aria-current]")[0].startswith("Nobody came .")


def test_keys_that_are_pressed_faster_than_documents_are_shown_are_all_taken(opened):
    page = opened()
    page.run(
        "[...'jjjk'].map((key) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})))"
    )
    assert shows(page, DOCUMENTS[2])


def test_documents_are_listed_by_name_as_people_count(browser, tmp_path):
    names = ["doc10", "doc2", "film-2-1", "doc1", "film-1-10", "film-1-9"]
    root = corpus(tmp_path / "corpus", tuple(bare(name, text="Nobody came .") for name in names))
    page = write_pages([replay(root, root / "test.jsonl", tmp_path / "run")], tmp_path / "page")
    browser.open(page)
    assert browser.document() == "doc1"
    assert browser.texts("#documents .id") == ["doc1", "doc2", "doc10", "film-1-9", "film-1-10", "film-2-1"]
    browser.run(CHOOSE, "order", "corpus")
    assert browser.texts("#documents .id") == names


def test_the_search_looks_at_texts_titles_and_ids(opened):
    page = opened()
    page.press("/", "北京")
    assert page.texts("#found") == ["1 of 5 documents"]
    page.press("Enter")
    assert shows(page, "zh-1")


def test_filters_leave_only_documents_that_pass(opened):
    page = opened()

    def choose(name: str, value: str) -> list[str]:
        page.run(CHOOSE, name, value)
        return page.texts("#documents .id")

    assert choose("lang", "zh") == ["zh-1"]
    assert choose("lang", "") == DOCUMENTS
    assert choose("task", "grounding") == ["en-1"]
    assert choose("task", "") == DOCUMENTS
    assert choose("type", "PER-PER_couple") == ["en-1"]
    assert choose("type", "") == DOCUMENTS
    page.click("#errors")
    assert page.texts("#documents .id") == ["en-1", "zh-1"]
    page.click('.chip[data-run="1"]')  # what is right of the rest
    assert page.texts("#documents .id") == []
    assert page.texts("#found") == ["0 of 5 documents"]


def test_documents_are_sorted_by_the_share_that_is_correct(opened):
    page = opened()
    page.click('.chip[data-run="0"]')  # what is right of all
    page.run(CHOOSE, "order", "worst")
    assert page.texts("#documents .id")[:2] == ["zh-1", "en-1"]
    page.run(CHOOSE, "order", "best")
    assert page.texts("#documents .id")[:2] == ["en-1", "zh-1"]


def test_only_errors_lets_what_is_right_step_back(opened):
    page = opened()
    page.press("e")
    dim = page.run(
        """[...document.querySelectorAll('.text .tag[data-side="wrong"]:not(.dim)')].map((t) => t.textContent)"""
    )
    assert dim == ["+4", "≠2", "−2", "−1"]
    page.press("e")
    assert page.texts("main .dim") == []


# --- columns, passes, answers ---


def test_columns_come_and_go(opened):
    page = opened()
    page.click('.chip[data-run="0"]')
    assert page.texts(".heads b") == ["gold", "wrong"]
    page.click('.chip[data-run="-1"]')
    assert page.texts(".heads b") == ["wrong"]
    page.click('.chip[data-run="0"]')
    assert page.texts(".heads b") == ["right", "wrong"]


def test_a_pass_with_gold_given_shows_the_runs_that_have_it(opened):
    page = opened(document="en-1", given="chains")
    assert page.texts(".heads b") == ["gold", "right"]
    assert page.run("document.getElementById('given').value") == "chains"


def test_the_answer_and_its_issues_are_one_click_away(opened):
    page = opened(document="zh-1")
    assert page.texts(".answer") == ["answer", "answer · 1 issue"]
    page.click(".answer", 1)
    assert page.run("document.getElementById('dialog').open")
    assert page.texts("#dialog-title") == ["What wrong answered"]
    assert page.texts("#dialog tbody th") == ["empty_answer"]
    assert '"chains": []' in page.texts("#dialog pre")[0]
    page.press("Escape")
    assert not page.run("document.getElementById('dialog').open")


def test_a_frame_opens_with_its_boxes_in_words(opened):
    page = opened()
    page.click(".still", 1)
    verdicts = page.texts("#dialog tbody td:nth-child(4)")
    assert verdicts == ["", "✓ true positive", "+ spurious", "− missed"]


def test_help_opens_by_key(opened):
    page = opened()
    page.press("?")
    assert page.texts("#dialog-title") == ["Help"]
    page.press("?")
    assert not page.run("document.getElementById('dialog').open")


# --- for everyone ---


def test_what_can_be_pressed_has_a_name_and_what_is_an_image_has_a_word(opened):
    page = opened()
    script = """[...document.querySelectorAll("button, [role=button], [role=img], select, input, [role=group]")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
        .map((e) => e.outerHTML)"""
    assert page.run(script) == []
    assert page.run("document.querySelectorAll('img:not([alt])').length") == 0
    assert page.run("document.querySelectorAll('main').length") == 1


def test_the_theme_is_that_of_the_system_until_it_is_chosen(opened, browser):
    def paper() -> str:
        return str(browser.run("getComputedStyle(document.body).backgroundColor"))

    light = (opened(), paper())[1]
    browser.resize(1400, 1000, theme="dark")
    dark = paper()
    assert dark != light
    browser.click("#theme")
    assert paper() == light
    browser.click("#theme")
    browser.resize(1400, 1000)
    assert paper() == dark
    browser.click("#theme")
    assert paper() == light


def test_a_phone_shows_one_column_and_needs_no_sideways_scrolling(opened, browser):
    browser.resize(390, 844)
    page = opened()
    assert page.texts(".heads b") == ["right"]
    page.click('.chip[data-run="1"]')
    assert page.texts(".heads b") == ["wrong"]
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.click("#menu")
    assert page.run("document.activeElement.id") == "search"
    page.click("#documents a", 4)
    assert shows(page, "zh-1")
    assert not page.run("document.body.classList.contains('listing')")


@pytest.mark.parametrize(
    ("width", "theme"), [(1440, "light"), (1440, "dark"), (800, "light"), (390, "dark"), (2200, "light")]
)
def test_the_page_fits_its_window(opened, browser, tmp_path, width, theme):
    browser.resize(width, 900, theme=theme)
    page = opened(select=1)
    assert page.run("document.documentElement.scrollWidth") <= width
    shot = Image.open(io.BytesIO(page.shoot(tmp_path / "page.png"))).convert("L")
    assert shot.size == (width, 900)
    paper = shot.getpixel((width // 2, 880))
    assert (paper > 200) == (theme == "light")
    assert len(shot.getcolors(256)) > 50  # something is drawn


def test_one_file_works_like_a_folder(browser, runs, tmp_path):
    browser.open(write_pages(runs, tmp_path, embed=True), document="zh-1", select=2)
    assert lit(browser, '.cell[data-side="gold"]') == ["北京", "2"]
    browser.wait("document.querySelector('.strip img').naturalWidth === 64")


def test_a_long_list_is_shown_a_page_at_a_time(browser, tmp_path):
    content = {"gold": False, "corpora": [], "searched": 100, "runs": [], "glosses": {"en": {}, "zh": {}}}
    nothing = {"text": "", "frames": 0, "issues": [], "tallies": [], "file": None}
    empty = {"text": "", "group": "", "segments": [], "frames": [], "entities": [], "sides": [], "answers": []}
    names = [{"id": f"d{n}", "lang": "en", "title": f"Film {n}"} for n in range(450)]
    page = tmp_path / "index.html"
    entries, bodies = (
        (json_for_html(nothing | one) for one in names),
        (embedded(n, empty | names[n]) for n in range(450)),
    )
    page.write_bytes(b"".join(index_page(content, entries, bodies)))

    browser.open(page)
    assert len(browser.all("#documents a")) == 200
    browser.click("#documents .more")
    assert browser.texts("#documents .more") == ["Previous: 1 to 200", "Next: 401 to 450"]
    browser.open(page, document="d449")
    assert browser.texts("#documents a[aria-current] .id") == ["d449"]
    assert len(browser.all("#documents a")) == 50
    browser.press("k")
    browser.wait("document.querySelector('main .eyebrow .mono').textContent === 'd448'")


def test_an_address_of_nothing_says_so(opened):
    assert opened(document="gone").texts("main") == ["No document has the id gone."]


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (800, "dark"), (1400, "light")])
def test_axe_finds_no_barrier(opened, browser, width, theme):
    browser.resize(width, 900, theme=theme)
    assert opened().barriers() == []


def test_on_paper_every_chosen_column_is_there_and_nothing_else(opened, browser):
    page = opened()
    browser.resize(703, 900)  # A4, less its margins
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        page.wait("document.querySelectorAll('.heads b').length > 1")
        assert page.texts(".heads b") == ["gold", "right", "wrong"]
        assert page.run("document.documentElement.scrollWidth") <= 703
        hidden = "[...document.querySelectorAll('.bar, #list, .skip, .steps')].every((e) => !e.getClientRects().length)"
        assert page.run(hidden)
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_narrow_window_prints_as_many_pages_as_a_wide_one(opened, browser):
    browser.resize(1400, 900)
    wide = opened().pages()
    browser.resize(390, 900)
    assert opened().pages() == wide
    assert browser.texts(".heads b") == ["right"]  # as before


def test_of_documents_that_nobody_annotated_there_is_no_gold_to_see(browser, tmp_path):
    bared = tuple(replace(one, gold=Annotation(), unannotated=frozenset(TASKS)) for one in EXAMPLES)
    root = corpus(tmp_path / "corpus", bared)
    browser.open(write_pages([replay(root, wrong_lines(), tmp_path / "run")], tmp_path / "page"), document="en-1")
    assert browser.texts(".heads b") == ["run"]
    assert browser.texts(".summary .cell") == ["5", "4", "3", "2"]
    assert browser.texts("figcaption") == ["0", "24"]
    assert browser.texts("#documents .meters") == []
