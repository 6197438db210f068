"""The BRAT importer: spans, chains, relations, languages, clips, and a name for everything that does not come in."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.brat import read_brat
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from m3dllm.types import Box, Example
from tests.small import png

TEXT = "Ada met Bela in Arles. She left."
ANN = """\
T1\tPerson 0 3\tAda
T2\tPerson 8 12\tBela
T3\tPlace 16 21\tArles
T4\tPerson 23 26\tShe
R1\tCoref Arg1:T4 Arg2:T1
R2\tlived_in Arg1:T2 Arg2:T3
"""


def pair(folder: Path, text: str | bytes = TEXT, ann: str | bytes = ANN, *, name: str = "d") -> Path:
    for suffix, content in ((".txt", text), (".ann", ann)):
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def one(imported: Imported) -> Example:
    (example,) = imported.splits["train"]
    return example


def chains(example: Example) -> set[frozenset[str]]:
    """The texts of the mentions of each chain."""
    text = example.document.text
    return {frozenset(text[m.start : m.end] for m in chain.mentions) for chain in example.gold.chains}


def relations(example: Example) -> list[tuple[str, str, str]]:
    """Each relation with the first mentions of its ends."""
    text = example.document.text
    firsts = {chain.id: text[slice(*chain.mentions[0].span)] for chain in example.gold.chains}
    return [(firsts[r.head], r.type, firsts[r.tail]) for r in example.gold.relations]


def left_out(imported: Imported) -> list[tuple[str, str]]:
    return [(left.what, left.why) for left in imported.left_out]


def changed(imported: Imported) -> list[tuple[str, str]]:
    return [(left.what, left.why) for left in imported.changed]


# --- documents and files ----------------------------------------------------------------------------------------------


def test_a_pair_of_files_becomes_a_document(tmp_path):
    imported = read_brat(pair(tmp_path))
    example = one(imported)
    assert (example.document.id, example.document.lang, example.document.text) == ("d", "en", TEXT)
    assert chains(example) == {frozenset(("Ada", "She")), frozenset(("Bela",)), frozenset(("Arles",))}
    assert relations(example) == [("Bela", "lived_in", "Arles")]
    assert [chain.type for chain in example.gold.chains] == ["Person", "Person", "Place"]
    assert imported.left_out == imported.changed == []


def test_chinese_offsets_are_characters(tmp_path):
    ann = "T1\t人物 0 2\t苏珊\nT2\t地点 6 8\t北京\nR1\t出生地 Arg1:T1 Arg2:T2\n"
    example = one(read_brat(pair(tmp_path, "苏珊出生在了北京。", ann)))
    assert example.document.lang == "zh"
    assert relations(example) == [("苏珊", "出生地", "北京")]


def test_a_character_beyond_the_basic_plane_is_one_character(tmp_path):
    assert chains(one(read_brat(pair(tmp_path, "🎬 Susan", "T1\tPerson 2 7\tSusan")))) == {frozenset(("Susan",))}


def test_ids_are_paths_in_the_folder(tmp_path):
    pair(tmp_path, name="a/1.final")
    pair(tmp_path, name="b/1")
    assert [example.document.id for example in read_brat(tmp_path).splits["train"]] == ["a/1.final", "b/1"]


@pytest.mark.parametrize("suffix", [".ann", ".txt"])
def test_one_file_is_one_document(tmp_path, suffix):
    pair(tmp_path)
    pair(tmp_path, name="e")
    assert one(read_brat(tmp_path / f"d{suffix}")).document.id == "d"


def test_texts_may_stand_in_another_folder(tmp_path):
    pair(tmp_path, name="both/d")
    for suffix in (".ann", ".txt"):
        (tmp_path / suffix[1:]).mkdir()
        (tmp_path / f"both/d{suffix}").rename(tmp_path / suffix[1:] / f"d{suffix}")
    assert one(read_brat(tmp_path / "ann", text=tmp_path / "txt")).document.text == TEXT
    assert one(read_brat(tmp_path / "ann/d.ann", text=tmp_path / "txt")).document.text == TEXT


def test_a_file_without_its_other_half_is_left_out_by_name(tmp_path):
    pair(tmp_path)
    (tmp_path / "e.ann").write_text("")
    (tmp_path / "readme.txt").write_text("")
    imported = read_brat(tmp_path)
    assert [(left.what, left.where) for left in imported.left_out] == [("document", "e.ann"), ("file", "readme.txt")]


def test_hidden_files_are_passed_over(tmp_path):
    pair(tmp_path)
    pair(tmp_path, name="._d")
    pair(tmp_path, name="__MACOSX/d")
    assert read_brat(tmp_path).left_out == []


def test_an_empty_annotation_is_a_document_without_gold(tmp_path):
    assert one(read_brat(pair(tmp_path, ann=""))).gold.chains == ()


def test_an_empty_text_is_a_document_whose_language_is_english_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "", ""))
    assert (one(imported).document.text, one(imported).document.lang) == ("", "en")
    assert changed(imported) == [("document", "its text does not tell its language: taken as English")]


def test_a_given_language_is_taken_as_it_is(tmp_path):
    imported = read_brat(pair(tmp_path, "", ""), lang="zh")
    assert one(imported).document.lang == "zh"
    assert imported.changed == []


def test_a_split_may_be_named(tmp_path):
    assert list(read_brat(pair(tmp_path), split="dev").splits) == ["dev"]


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: (p.mkdir(), (p / "a.ann").write_text(""))])
def test_a_folder_without_documents_is_refused(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(UserError, match="has no document to import"):
        read_brat(tmp_path / "x")


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_brat(tmp_path / "x")
    with pytest.raises(UserError, match="does not exist"):
        read_brat(pair(tmp_path), text=tmp_path / "x")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"is no \.ann or \.txt file"):
        read_brat(tmp_path / "x.json")


@pytest.mark.parametrize("half", ["d.txt", "d.ann"])
def test_a_wrong_encoding_is_refused_with_file_and_line(tmp_path, half):
    pair(tmp_path)
    (tmp_path / half).write_bytes(b"ok\n\xff\xfe\n")
    with pytest.raises(UserError, match=rf"{half}:2: byte 0xff is not UTF-8"):
        read_brat(tmp_path)


def test_one_language_for_all_and_a_split_by_language_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="choose"):
        read_brat(pair(tmp_path), lang="en", split_languages=True)


def test_a_pattern_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no pattern"):
        read_brat(pair(tmp_path), chain_names="(")


# --- mentions ---------------------------------------------------------------------------------------------------------


def test_a_line_end_in_a_mention_is_a_space_in_its_text(tmp_path):
    imported = read_brat(pair(tmp_path, "Ada\nLovelace", "T1\tPerson 0 12\tAda Lovelace"))
    assert chains(one(imported)) == {frozenset(("Ada\nLovelace",))}
    assert imported.changed == []


def test_cr_lf_counts_two_where_the_annotations_say_so(tmp_path):
    imported = read_brat(pair(tmp_path, "Ada.\r\nBela.\r\n", "T1\tPerson 6 10\tBela"))
    assert chains(one(imported)) == {frozenset(("Bela",))}
    assert imported.changed == []


def test_cr_lf_counts_one_where_the_annotations_say_so_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "Ada.\r\nBela.\r\n", "T1\tPerson 5 9\tBela"))
    assert one(imported).document.text == "Ada.\nBela.\n"
    assert chains(one(imported)) == {frozenset(("Bela",))}
    assert changed(imported) == [("document", "its offsets count a line end as one character")]


def test_a_byte_order_mark_is_no_character(tmp_path):
    imported = read_brat(pair(tmp_path, b"\xef\xbb\xbfAda left.", "T1\tPerson 0 3\tAda"))
    assert one(imported).document.text == "Ada left."
    assert imported.changed == []


def test_offsets_that_count_the_byte_order_mark_are_read_so_by_name(tmp_path):
    text = b"\xef\xbb\xbfAda.\r\nBela."
    imported = read_brat(pair(tmp_path, text, "T1\tPerson 1 4\tAda\nT2\tPerson 6 10\tBela"))
    assert chains(one(imported)) == {frozenset(("Ada",)), frozenset(("Bela",))}
    assert changed(imported) == [("document", "its offsets count a line end as one character and the byte-order mark")]


def test_a_mention_whose_text_is_another_is_left_out_by_file_line_and_text(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN.replace("T2\tPerson 8 12", "T2\tPerson 9 13")))
    assert left_out(imported) == [
        ("mention", "the text at its offsets is another"),
        ("relation", "an end is left out"),
    ]
    assert imported.left_out[0].where == "d.ann:2: T2 'Bela', the text has 'ela '"


def test_a_mention_past_the_text_is_left_out_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "Ada", "T1\tPerson 0 9\tAda"))
    assert left_out(imported) == [("mention", "its offsets do not fit the text")]


def test_wrong_offsets_are_repaired_by_name_where_the_text_stands_once_nearby(tmp_path):
    ann = ANN.replace("T2\tPerson 8 12", "T2\tPerson 9 13").replace("T3\tPlace 16 21", "T3\tPlace 99 104")
    imported = read_brat(pair(tmp_path, ann=ann), repair_offsets=True)
    assert relations(one(imported)) == [("Bela", "lived_in", "Arles")]
    assert changed(imported) == [("mention", "its offsets were wrong: moved to where its text stands")] * 2
    assert imported.changed[0].where == "d.ann:2: T2 'Bela': from 9 to 8"


@pytest.mark.parametrize("text", ["nobody there", "Ada, Ada!", "x" * 200 + "Ada"])
def test_wrong_offsets_stay_wrong_where_the_text_stands_nowhere_twice_or_far(tmp_path, text):
    imported = read_brat(pair(tmp_path, text, "T1\tPerson 4 7\tAda"), repair_offsets=True)
    assert left_out(imported) == [("mention", "the text at its offsets is another")]


def test_occurrences_that_overlap_are_two(tmp_path):
    imported = read_brat(pair(tmp_path, "anana is", "T1\tPerson 5 8\tana"), repair_offsets=True)
    assert left_out(imported) == [("mention", "the text at its offsets is another")]


def test_a_text_that_differs_in_marks_only_is_kept_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "威廉、柯尔走了。", "T1\tPerson 0 5\t威廉・柯尔"))
    assert chains(one(imported)) == {frozenset(("威廉、柯尔",))}
    assert changed(imported) == [("mention", "its text differs in marks")]


@pytest.mark.parametrize(("text", "said"), [(" (Ada", "(Ada)"), ("(Ada)", "[Ida]"), (".....", "!!!!!")])
def test_marks_excuse_neither_wrong_offsets_nor_other_letters_nor_a_text_of_marks(tmp_path, text, said):
    imported = read_brat(pair(tmp_path, text, f"T1\tPerson 0 5\t{said}"))
    assert left_out(imported) == [("mention", "the text at its offsets is another")]


def test_a_text_that_is_not_said_is_not_compared(tmp_path):
    assert chains(one(read_brat(pair(tmp_path, ann="T1\tPerson 0 3")))) == {frozenset(("Ada",))}


def test_pieces_parted_by_white_space_are_joined_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "高档\n被毯", "T1\tThing 0 2;3 5\t高档 被毯"), discontinuous="leave-out")
    assert chains(one(imported)) == {frozenset(("高档\n被毯",))}
    assert changed(imported) == [("mention", "white space parts its pieces: joined")]


def test_a_mention_in_pieces_is_the_span_that_covers_them_by_name(tmp_path):
    ann = "T1\tPart 0 4;15 20\tleft atria\n"
    imported = read_brat(pair(tmp_path, "left and right atria", ann))
    assert chains(one(imported)) == {frozenset(("left and right atria",))}
    assert changed(imported) == [("mention", "it is in pieces: the span that covers them stands for it")]
    assert imported.changed[0].where == "d.ann:1: T1 'left atria' in 'left and right atria'"


def test_a_mention_in_pieces_may_be_left_out_by_name(tmp_path):
    imported = read_brat(
        pair(tmp_path, "left and right atria", "T1\tPart 0 4;15 20\tleft atria"), discontinuous="leave-out"
    )
    assert left_out(imported) == [("mention", "it is in pieces")]


def test_white_space_at_the_ends_of_a_mention_is_cut_off_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, ann="T1\tPerson 3 8\t met "))
    assert chains(one(imported)) == {frozenset(("met",))}
    assert changed(imported) == [("mention", "white space at its ends was cut off")]


def test_a_mention_of_white_space_is_left_out_by_name(tmp_path):
    assert left_out(read_brat(pair(tmp_path, ann="T1\tPerson 3 4\t "))) == [("mention", "it has no text")]


def test_the_first_annotation_of_a_span_is_kept_and_stands_for_the_second_by_name(tmp_path):
    ann = ANN + "T5\tCity 16 21\tArles\nR3\tborn_in Arg1:T1 Arg2:T5\n"
    imported = read_brat(pair(tmp_path, ann=ann))
    assert left_out(imported) == [("mention", "its span is a mention already")]
    assert relations(one(imported)) == [("Bela", "lived_in", "Arles"), ("Ada", "born_in", "Arles")]
    assert one(imported).gold.chains[2].type == "Place"


def test_mentions_may_nest_and_overlap(tmp_path):
    ann = "T1\tPerson 0 12\tAda met Bela\nT2\tPerson 0 3\tAda\nT3\tX 8 15\tBela in"
    assert len(one(read_brat(pair(tmp_path, ann=ann))).gold.chains) == 3


def test_types_are_chosen_and_renamed_and_take_their_relations_with_them_by_name(tmp_path):
    imported = read_brat(pair(tmp_path), entity_types={"Per*": "PER"})
    assert chains(one(imported)) == {frozenset(("Ada", "She")), frozenset(("Bela",))}
    assert imported.labels.names("mentions") == {"PER"}
    assert left_out(imported) == [("mention", "its type 'Place' is not chosen"), ("relation", "an end is left out")]


def test_events_and_their_triggers_are_left_out_by_name(tmp_path):
    ann = ANN + "T5\tMeeting 4 7\tmet\nE1\tMeeting:T5 Who:T1 Who2:T2\nR3\tknows Arg1:T1 Arg2:E1\n"
    imported = read_brat(pair(tmp_path, ann=ann))
    assert left_out(imported) == [
        ("event", "events have no place in a corpus"),
        ("mention", "it is the trigger of an event"),
        ("relation", "an end is an event"),
    ]
    assert len(one(imported).gold.chains) == 3


# --- chains -----------------------------------------------------------------------------------------------------------


def test_coreference_joins_however_the_links_go(tmp_path):
    text = "a b c d e"
    ann = "".join(f"T{i}\tX {2 * i} {2 * i + 1}\t{text[2 * i]}\n" for i in range(5))
    ann += "R1\tCoref Arg1:T0 Arg2:T1\nR2\tsame_mention Arg1:T3 Arg2:T2\n*\tEquiv T3 T1\n"
    assert chains(one(read_brat(pair(tmp_path, text, ann)))) == {frozenset("abcd"), frozenset("e")}


def test_an_equivalence_joins_all_its_members(tmp_path):
    ann = ANN + "*\tEquiv T1 T2 T3\n"
    assert frozenset(("Ada", "She", "Bela", "Arles")) in chains(one(read_brat(pair(tmp_path, ann=ann))))


def test_coreference_is_what_the_option_names_and_equiv(tmp_path):
    ann = ANN + "*\tEquiv T1 T2\n*\tCoref T1 T3\n"
    imported = read_brat(pair(tmp_path, ann=ann), coreference=["Lived-In"])
    assert chains(one(imported)) == {frozenset(("Ada", "Bela", "Arles")), frozenset(("She",))}
    assert left_out(imported) == [("equivalence", "'Coref' is not among the names of coreference")]


def test_chains_are_named_in_the_order_of_their_first_mentions(tmp_path):
    example = one(read_brat(pair(tmp_path, ann="T1\tX 8 12\tBela\nT2\tX 0 3\tAda\n")))
    assert [(chain.id, chain.mentions[0].start) for chain in example.gold.chains] == [("c0", 0), ("c1", 8)]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("R3\tCoref Arg1:T1 Arg2:T9", ("relation", "an end names nothing")),
        ("R3\tCoref Arg1:T8 Arg2:T9", ("relation", "an end names nothing")),
        ("R3\tCoref Arg1:T1 Arg2:T1", ("relation", "it joins a mention to itself")),
        ("*\tEquiv T1 T9", ("end of an equivalence", "an end names nothing")),
        ("*\tAlias T1 T2", ("equivalence", "'Alias' is not among the names of coreference")),
        ("R3\tlived_in Arg1:T9 Arg2:T1", ("relation", "an end names nothing")),
        ("R3\tknows Arg1:T1 Arg2:T4", ("relation", "both its ends are in one chain")),
        ("R3\tknows Arg1:T1 Arg2:T1", ("relation", "both its ends are in one chain")),
        ("R3\tlived_in Arg1:T2 Arg2:T3", ("relation", "its chains have it already")),
        ("R3\tknows Arg1:T1", ("relation", "it is not 'R1, type Arg1:T1 Arg2:T2'")),
        ("A1\tNegation R1", ("attribute", "attributes have no place in a corpus")),
        ("N1\tReference T1 Wikipedia:1\tAda", ("normalization", "normalizations have no place in a corpus")),
        ("#1\tAnnotatorNotes T1\tsure?", ("note", "notes have no place in a corpus")),
        ("what is this", ("line", "it is no annotation")),
    ],
)
def test_a_line_without_a_place_is_left_out_once_by_file_and_line(tmp_path, line, left):
    imported = read_brat(pair(tmp_path, ann=ANN + line + "\n"))
    assert left_out(imported) == [left]
    assert imported.left_out[0].where.startswith("d.ann:7: ")
    assert chains(one(imported)) == {frozenset(("Ada", "She")), frozenset(("Bela",)), frozenset(("Arles",))}
    assert relations(one(imported)) == [("Bela", "lived_in", "Arles")]


def test_a_relation_is_between_chains_and_keeps_its_direction(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN + "R3\tknows Arg1:T4 Arg2:T2\nR4\tknows Arg1:T2 Arg2:T1\n"))
    assert relations(one(imported))[1:] == [("Ada", "knows", "Bela"), ("Bela", "knows", "Ada")]


def test_relation_types_are_chosen_and_renamed_by_name(tmp_path):
    ann = ANN + "R3\tknows Arg1:T1 Arg2:T2\n"
    imported = read_brat(pair(tmp_path, ann=ann), relation_types={"knows": "PER-PER_peer"})
    assert relations(one(imported)) == [("Ada", "PER-PER_peer", "Bela")]
    assert left_out(imported) == [("relation", "its type 'lived_in' is not chosen")]


NAMED = "T5\tAda-0 0 3\tAda\nT6\tAda-0 23 26\tShe\nT7\tArles-1 16 21\tArles\nR3\tcop Arg1:T7 Arg2:T5\n"


def test_a_second_type_that_ends_in_a_number_names_the_chain_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN.replace("R1\tCoref Arg1:T4 Arg2:T1\n", "") + NAMED))
    assert chains(one(imported)) == {frozenset(("Ada", "She")), frozenset(("Bela",)), frozenset(("Arles",))}
    assert ("Arles", "cop", "Ada") in relations(one(imported))
    assert imported.left_out == []
    assert changed(imported) == [("mention", "a second type on its span was read as the name of its chain")] * 3


def test_chain_names_may_be_switched_off(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN + NAMED), chain_names=None)
    assert left_out(imported) == [("mention", "its span is a mention already")] * 3


def test_a_type_that_ends_in_a_number_is_a_type_where_it_stands_alone(tmp_path):
    example = one(read_brat(pair(tmp_path, ann="T1\tType-2 0 3\tAda")))
    assert example.gold.chains[0].type == "Type-2"


def test_the_name_of_a_chain_goes_with_its_mention_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, ann="T1\tPlace 0 3\tAda\nT2\tAda-0 0 3\tAda"), entity_types={"Person": ""})
    assert left_out(imported) == [
        ("mention", "its type 'Place' is not chosen"),
        ("chain name", "its mention is left out"),
    ]


# --- two languages ----------------------------------------------------------------------------------------------------

BOTH = "Ada left Arles.\n艾达离开了阿尔勒。\n"
BOTH_ANN = """\
T1\tPerson 0 3\tAda
T2\tPlace 9 14\tArles
T3\tPerson 16 18\t艾达
T4\tPlace 21 24\t阿尔勒
R1\tleft Arg1:T1 Arg2:T2
R2\tleft Arg1:T3 Arg2:T4
"""


def test_a_text_in_two_languages_becomes_two_documents_of_one_group(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN, name="9005"), split_languages=True)
    english, chinese = imported.splits["train"]
    assert [(e.document.id, e.document.lang, e.document.group) for e in (english, chinese)] == [
        ("9005.en", "en", "9005"),
        ("9005.zh", "zh", "9005"),
    ]
    assert (english.document.text, chinese.document.text) == ("Ada left Arles.\n", "艾达离开了阿尔勒。\n")
    assert relations(english) == [("Ada", "left", "Arles")]
    assert relations(chinese) == [("艾达", "left", "阿尔勒")]
    assert imported.left_out == imported.changed == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("R3\tleft Arg1:T1 Arg2:T4", "relation"),
        ("R3\tCoref Arg1:T1 Arg2:T3", "relation"),
        ("*\tEquiv T1 T3", "equivalence"),
        ("T5\tPerson 9 18\tArles. 艾达", "mention"),
        ("T5\tA-0 0 3\tAda\nT6\tA-0 16 18\t艾达", "chain name"),
    ],
)
def test_what_crosses_from_one_language_to_the_other_is_left_out_by_name(tmp_path, line, what):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN + line), split_languages=True)
    assert left_out(imported) == [(what, "it crosses from one language to another")]


def test_an_equivalence_that_crosses_still_joins_within_each_language(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN + "*\tEquiv T1 T2 T3"), split_languages=True)
    assert chains(imported.splits["train"][0]) == {frozenset(("Ada", "Arles"))}


def test_lines_that_say_all_again_are_left_out_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH + BOTH, BOTH_ANN), split_languages=True)
    assert [example.document.text for example in imported.splits["train"]] == BOTH.splitlines(keepends=True)
    assert [(left.what, left.where) for left in imported.left_out] == [("text", "d.txt: lines 3 to 4")]


def test_a_text_in_one_language_becomes_one_document_of_its_group(tmp_path):
    document = one(read_brat(pair(tmp_path), split_languages=True)).document
    assert (document.id, document.group) == ("d.en", "d")


def test_an_empty_text_to_be_split_becomes_one_document_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "", ""), split_languages=True)
    assert one(imported).document.id == "d.en"
    assert changed(imported) == [("document", "its text does not tell its language: taken as English")]


def test_a_text_in_two_languages_that_is_not_split_is_named(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN))
    assert changed(imported) == [("document", "its text is in two languages: it may be split by language")]
    assert len(one(imported).gold.chains) == 4


# --- clips ------------------------------------------------------------------------------------------------------------


def clip(folder: Path, *, name: str = "d") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "24.png").write_bytes(png())
    (folder / name / "48.png").write_bytes(png())
    (folder / name / "24.txt").write_text("Person 0.5 0.5 0.5 0.5\nPlace 0.5 0.5 1 1\n")
    return folder


def test_both_languages_have_the_frames_and_the_regions(tmp_path):
    imported = read_brat(
        pair(tmp_path / "c", BOTH, BOTH_ANN), split_languages=True, frames=clip(tmp_path / "v"), boxes=tmp_path / "v"
    )
    english, chinese = imported.splits["train"]
    assert english.document.frames == chinese.document.frames
    assert [(frame.index, frame.annotated) for frame in english.document.frames] == [(24, True), (48, False)]
    assert english.gold.regions == chinese.gold.regions
    assert english.gold.regions[0].box == Box(0.25, 0.25, 0.75, 0.75)
    assert set(imported.images) == {"frames/d/24.png", "frames/d/48.png"}
    assert imported.labels.names("regions") == {"Person", "Place"}
    assert imported.left_out == []


def test_frames_may_stand_among_the_documents(tmp_path):
    imported = read_brat(pair(clip(tmp_path)), frames=tmp_path)
    assert len(one(imported).document.frames) == 2
    assert [left.where for left in imported.left_out] == ["d/24.txt"]


def test_the_only_document_does_not_take_the_texts_beside_it_for_boxes(tmp_path):
    pair(tmp_path, name="9005")
    (tmp_path / "24.png").write_bytes(png())
    imported = read_brat(tmp_path, frames=tmp_path)
    assert [frame.index for frame in one(imported).document.frames] == [24]
    assert imported.left_out == []


def test_a_document_without_frames_is_named(tmp_path):
    pair(tmp_path / "c")
    imported = read_brat(pair(tmp_path / "c", name="e"), frames=clip(tmp_path / "v"))
    assert left_out(imported) == [("clip", "there is no frame of the document")]
    assert imported.left_out[0].where == "e"


def test_yolo_names_come_as_a_list_or_a_file(tmp_path):
    pair(tmp_path / "c")
    clip(tmp_path / "v")
    (tmp_path / "v/d/24.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "names.txt").write_text("PER\nLOC\n")
    for names in (["PER", "LOC"], tmp_path / "names.txt"):
        imported = read_brat(tmp_path / "c", frames=tmp_path / "v", yolo_names=names)
        assert [region.type for region in one(imported).gold.regions] == ["LOC"]


def test_an_import_is_written_and_loaded_again_as_it_was(tmp_path):
    pair(tmp_path / "c", BOTH + BOTH, BOTH_ANN)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as packed:
        packed.writestr("d/24.png", png())
    imported = read_brat(tmp_path / "c", split_languages=True, frames=tmp_path / "d.zip")
    write_corpus(tmp_path / "new", imported)
    corpus = load_corpus(tmp_path / "new")
    assert [example.gold for example in corpus["train"]] == [example.gold for example in imported.splits["train"]]
    assert Path(corpus["train"][0].document.frames[0].path).read_bytes() == png()


# --- anything at all --------------------------------------------------------------------------------------------------

PIECES = (
    *(
        "T1",
        "T2",
        "T3",
        "T4",
        "T5",
        "R1",
        "R2",
        "E1",
        "*",
        "A1",
        "#1",
        "Arg1:T1",
        "Arg2:T2",
        "Arg2:T4",
        "Equiv",
        "Coref",
    ),
    *(
        "\t",
        "\t",
        "\t",
        " ",
        " ",
        "\n",
        "\n",
        ";",
        "0 3",
        "8 12",
        "16 21",
        "3 2",
        "99 103",
        "0 4;15 20",
        "Person",
        "X-1",
    ),
    *("Ada", "Bela", "苏珊", "\r\n", "\u2028", "\x00", "🎬", "same_mention", "knows"),
)
TEXTS = (TEXT, BOTH, BOTH + BOTH, "", "苏珊出生在北京。", "Ada\r\nBela\r\n", "\ufeffAda met Bela", "🎬 Ada", "\n \n")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(st.sampled_from(TEXTS), st.text(max_size=40)),
    ann=st.lists(st.sampled_from((*PIECES, *ANN.splitlines(keepends=True), *BOTH_ANN.splitlines(keepends=True)))),
    split_languages=st.booleans(),
    repair_offsets=st.booleans(),
    discontinuous=st.sampled_from(["cover", "leave-out"]),
)
def test_any_lines_make_a_sound_document_and_every_line_is_accounted_for(tmp_path, text, ann, **options):
    pair(tmp_path, text, "".join(ann))
    imported = read_brat(tmp_path, **options)
    examples = imported.splits["train"]
    assert len(examples) == 1 or options["split_languages"]
    spans = [mention.span for example in examples for chain in example.gold.chains for mention in chain.mentions]
    lines = sum(bool(line.strip()) and line[0] == "T" for line in "".join(ann).split("\n"))
    gone = sum(left.what in ("mention", "chain name") for left in imported.left_out)
    named = sum("name of its chain" in left.why for left in imported.changed)
    crossing = sum(left.what == "chain name" and "crosses" in left.why for left in imported.left_out)
    assert len(spans) + gone + named - crossing == lines
    for example in examples:
        assert not list(imported.labels.unknown(example.gold))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=30), ann=st.binary(max_size=60))
def test_any_bytes_are_imported_or_refused_in_one_line(tmp_path, text, ann):
    pair(tmp_path, text, ann)
    try:
        read_brat(tmp_path)
    except UserError as refused:
        problem = str(refused)
    else:
        problem = ""
    assert "\n" not in problem


# --- real corpora -----------------------------------------------------------------------------------------------------


def counted(imported: Imported) -> dict[tuple[str, str], int]:
    return dict(Counter(left_out(imported)))


@pytest.fixture(scope="module")
def news(shared_data: Path) -> Imported:
    samples = shared_data / "mdocre_samples/samples"
    return read_brat(
        samples / "text_label",
        text=samples / "text",
        split_languages=True,
        frames=samples / "video",
        boxes=samples / "video_label",
    )


def test_the_news_samples_come_in_both_languages_with_all_annotations(news):
    by_lang = {lang: [e for e in news.splits["train"] if e.document.lang == lang] for lang in ("en", "zh")}
    for examples in by_lang.values():
        assert [example.document.group for example in examples] == ["9005", "9009", "9053", "9111", "9131"]
        assert sum(len(list(example.gold.mentions)) for example in examples) == 51
        assert sum(len(example.gold.relations) for example in examples) == 68
        assert [len(example.gold.regions) for example in examples] == [5, 6, 7, 8, 9]
        assert [len(example.document.frames) for example in examples] == [109, 138, 7, 8, 9]
        assert [sum(frame.annotated for frame in e.document.frames) for e in examples] == [5, 6, 7, 8, 9]
    assert "我是faith Lapidus" in by_lang["zh"][0].document.text


def test_the_news_samples_lose_nothing_but_the_repeated_lines_and_three_readmes(news):
    assert counted(news) == {
        ("text", "it says the lines above once more, without annotations"): 5,
        ("file", "there is no .ann file of its name"): 1,
        ("file", "no folder around it has a document's name"): 2,
    }
    assert news.changed == []


def test_the_first_chains_of_the_news_samples_read_right(news):
    english, chinese = news.splits["train"][:2]
    assert chains(english) >= {frozenset(("Dubai-based tech firm", "Biagio", "it"))}
    assert chains(chinese) >= {frozenset(("总部位于迪拜的科技公司", "Biagio", "该公司"))}


def test_the_novels_have_their_chains_by_name(shared_data):
    imported = read_brat(shared_data / "litbank/brat")
    mentions = [m for example in imported.splits["train"] for m in example.gold.mentions]
    assert len(imported.splits["train"]) == 20
    assert len(mentions) == 5602
    assert len(imported.changed) == 5467
    assert counted(imported) == {("relation", "its chains have it already"): 1}
    assert not any("-" in mention.type for mention in mentions)


def test_the_chinese_texts_come_with_every_fault_named(shared_data):
    imported = read_brat(shared_data / "chinese_literature")
    assert sum(len(list(example.gold.mentions)) for example in imported.splits["train"]) == 3746
    assert Counter(changed(imported)) == {
        ("mention", "white space parts its pieces: joined"): 85,
        ("mention", "its text differs in marks"): 2,
    }
    assert counted(imported) == {
        ("relation", "its chains have it already"): 1,
        ("file", "there is no .ann file of its name"): 1,
    }


def test_the_formats_own_examples_come_with_everything_else_counted(shared_data):
    imported = read_brat(shared_data / "brat/example-data")
    assert len(imported.splits["train"]) == 172
    counts = Counter(left.what for left in imported.left_out)
    assert (counts["event"], counts["attribute"], counts["note"], counts["normalization"]) == (700, 3802, 1173, 1)
    assert sum(len(example.gold.relations) for example in imported.splits["train"]) == 5786
    assert {left.why for left in imported.left_out if left.what == "mention"} == {
        "it is the trigger of an event",
        "its span is a mention already",
    }
