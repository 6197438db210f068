"""CoNLL and CorefUD: tokens, tags and brackets."""

from __future__ import annotations

from m3dllm.export import Item, Notes
from m3dllm.exporters._tokens import escaped, tokens_of
from m3dllm.tokens import joined
from m3dllm.types import Annotation, Chain, Document, Example, Mention
from tests.exporters.sources import ADA, SUSAN, exported, files_of, source


def of(text: str, *chains: tuple[tuple[int, int], ...], lang: str = "en") -> Example:
    """A document with chains of PER mentions at these spans."""
    made = (Chain(f"c{i}", tuple(Mention(*span, "PER") for span in spans)) for i, spans in enumerate(chains))
    return Example(Document("d", lang, text), Annotation(tuple(made)))


def test_tokens_end_where_mentions_do_and_at_white_space():
    one = of("Ada's  New York", ((0, 2),), ((7, 15),))
    item = Item("train", one.document, one.gold)
    assert [one.document.text[slice(*span)] for span in tokens_of(item)] == ["Ad", "a", "'", "s", "New", "York"]


def test_tokens_are_joined_by_spaces_where_their_script_has_them():
    assert joined(["Ada", "met", "苏", "珊", "。"]) == ("Ada met 苏珊。", ((0, 3), (4, 7), (8, 9), (9, 10), (10, 11)))
    assert joined([]) == ("", ())


def test_control_characters_are_escaped():
    assert escaped("a%\nb-c", r"\-") == "a%25%0Ab%2Dc"


def test_conll_has_a_tag_a_token():
    text = exported("conll", ADA)["train.conll"]
    assert text.startswith("# id = ada\n# lang = en\n# group = film\nAda\tB-PER\nwas\tO\n")
    assert text.count("B-PER") == 2
    assert exported("conll", SUSAN)["train.conll"] == (
        "# id = 苏珊\n# lang = zh\n苏\tB-PER\n珊\tI-PER\n去\tO\n了\tO\n北\tB-LOC\n京\tI-LOC\n。\tO\n\n"
    )


def test_conll_counts_what_tags_cannot_say():
    notes = Notes()
    files_of("conll", source(of("Ada  met Bela", ((0, 3), (9, 13)), ((0, 8),))), notes)
    assert [(note.what, note.why) for note in notes.left_out if note.what != "meaning of a type"] == [
        ("mention", "it overlaps a longer one"),
    ]
    assert [note.what for note in notes.changed] == ["the text of a document"]


def entities(example: Example) -> list[str]:
    """The brackets of each token."""
    rows = [line.split("\t") for line in exported("corefud", example)["train.conllu"].splitlines() if "\t" in line]
    misc = [dict(part.split("=", 1) for part in row[9].split("|") if part != "_") for row in rows]
    return [part.get("Entity", "") for part in misc]


def test_corefud_brackets_nest_as_mentions_do():
    assert entities(of("a b c d", ((0, 7), (0, 1)), ((2, 5),))) == ["(c0-PER-1(c0-PER-1)", "(c1-PER-1", "c1)", "c0)"]
    assert entities(of("a b c", ((0, 3),), ((2, 5),))) == ["(c0-PER-1", "c0)(c1-PER-1", "c1)"]


def test_corefud_leaves_out_what_crosses_its_own_entity():
    notes = Notes()
    files_of("corefud", source(of("a b c", ((0, 3), (2, 5)))), notes)
    assert ("mention", "it crosses another mention of its entity") in [(note.what, note.why) for note in notes.left_out]


def test_corefud_rows_have_ten_columns_and_the_white_space():
    text = exported("corefud", of(" Ada  met\n北京。\n", ((1, 4),)))["train.conllu"]
    rows = [line.split("\t") for line in text.splitlines() if "\t" in line]
    assert {len(row) for row in rows} == {10}
    assert [row[9] for row in rows] == [
        "Entity=(c0-PER-1)|SpacesAfter=\\s\\s|SpacesBefore=\\s",
        "SpacesAfter=\\n",
        "SpaceAfter=No",
        "SpaceAfter=No",
        "SpacesAfter=\\n",
    ]
    assert "# newdoc id = d\n# global.Entity = eid-etype-head\n" in text


def test_corefud_escapes_what_it_uses_itself_and_needs_a_sentence():
    odd = Example(Document("d", "en", "Ada"), Annotation((Chain("a-b|(c)", (Mention(0, 3, "P ER"),)),)))
    assert entities(odd) == ["(a%2Db%7C%28c%29-P%20ER-1)"]
    notes = Notes()
    assert files_of("corefud", source(of("")), notes)["train.conllu"] == ""
    assert ("document", "d") in [(note.what, note.where) for note in notes.left_out]
