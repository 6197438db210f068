"""The BRAT importer: documents, mentions and chains, and a name for everything that does not come in."""

from __future__ import annotations

import pytest

from m3dllm.corpora.brat import read_brat
from m3dllm.errors import UserError
from tests.corpora.standoff import ANN, TEXT, chains, changed, left_out, one, pair, relations

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
    assert changed(imported) == [("document", "its language cannot be detected: read as English")]


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
    with pytest.raises(UserError, match=r"is not a \.ann or \.txt file"):
        read_brat(tmp_path / "x.json")


@pytest.mark.parametrize("half", ["d.txt", "d.ann"])
def test_a_wrong_encoding_is_refused_with_file_and_line(tmp_path, half):
    pair(tmp_path)
    (tmp_path / half).write_bytes(b"ok\n\xff\xfe\n")
    with pytest.raises(UserError, match=rf"{half}:2: byte 0xff is not UTF-8"):
        read_brat(tmp_path)


def test_one_language_for_all_and_a_split_by_language_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="choose one"):
        read_brat(pair(tmp_path), lang="en", split_languages=True)


def test_a_pattern_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a valid pattern"):
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
        ("mention", "its text differs from the text at its offsets"),
        ("relation", "one of its ends was skipped"),
    ]
    assert imported.left_out[0].where == "d.ann:2: T2 'Bela', the text has 'ela '"


def test_a_mention_past_the_text_is_left_out_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "Ada", "T1\tPerson 0 9\tAda"))
    assert left_out(imported) == [("mention", "its offsets are outside the text")]


def test_wrong_offsets_are_repaired_by_name_where_the_text_stands_once_nearby(tmp_path):
    ann = ANN.replace("T2\tPerson 8 12", "T2\tPerson 9 13").replace("T3\tPlace 16 21", "T3\tPlace 99 104")
    imported = read_brat(pair(tmp_path, ann=ann), repair_offsets=True)
    assert relations(one(imported)) == [("Bela", "lived_in", "Arles")]
    assert changed(imported) == [("mention", "its offsets were wrong: moved to where its text is")] * 2
    assert imported.changed[0].where == "d.ann:2: T2 'Bela': from 9 to 8"


@pytest.mark.parametrize("text", ["nobody there", "Ada, Ada!", "x" * 200 + "Ada"])
def test_wrong_offsets_stay_wrong_where_the_text_stands_nowhere_twice_or_far(tmp_path, text):
    imported = read_brat(pair(tmp_path, text, "T1\tPerson 4 7\tAda"), repair_offsets=True)
    assert left_out(imported) == [("mention", "its text differs from the text at its offsets")]


def test_occurrences_that_overlap_are_two(tmp_path):
    imported = read_brat(pair(tmp_path, "anana is", "T1\tPerson 5 8\tana"), repair_offsets=True)
    assert left_out(imported) == [("mention", "its text differs from the text at its offsets")]


def test_a_text_that_differs_in_marks_only_is_kept_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "威廉、柯尔走了。", "T1\tPerson 0 5\t威廉・柯尔"))
    assert chains(one(imported)) == {frozenset(("威廉、柯尔",))}
    assert changed(imported) == [("mention", "its text differs in marks")]


@pytest.mark.parametrize(("text", "said"), [(" (Ada", "(Ada)"), ("(Ada)", "[Ida]"), (".....", "!!!!!")])
def test_marks_excuse_neither_wrong_offsets_nor_other_letters_nor_a_text_of_marks(tmp_path, text, said):
    imported = read_brat(pair(tmp_path, text, f"T1\tPerson 0 5\t{said}"))
    assert left_out(imported) == [("mention", "its text differs from the text at its offsets")]


def test_a_text_that_is_not_said_is_not_compared(tmp_path):
    assert chains(one(read_brat(pair(tmp_path, ann="T1\tPerson 0 3")))) == {frozenset(("Ada",))}


def test_pieces_parted_by_white_space_are_joined_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "高档\n被毯", "T1\tThing 0 2;3 5\t高档 被毯"), discontinuous="leave-out")
    assert chains(one(imported)) == {frozenset(("高档\n被毯",))}
    assert changed(imported) == [("mention", "only white space separates its fragments: joined")]


def test_a_mention_in_pieces_is_the_span_that_covers_them_by_name(tmp_path):
    ann = "T1\tPart 0 4;15 20\tleft atria\n"
    imported = read_brat(pair(tmp_path, "left and right atria", ann))
    assert chains(one(imported)) == {frozenset(("left and right atria",))}
    assert changed(imported) == [("mention", "it is discontinuous: replaced by the span that covers it")]
    assert imported.changed[0].where == "d.ann:1: T1 'left atria' in 'left and right atria'"


def test_a_mention_in_pieces_may_be_left_out_by_name(tmp_path):
    imported = read_brat(
        pair(tmp_path, "left and right atria", "T1\tPart 0 4;15 20\tleft atria"), discontinuous="leave-out"
    )
    assert left_out(imported) == [("mention", "it is discontinuous")]


def test_white_space_at_the_ends_of_a_mention_is_cut_off_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, ann="T1\tPerson 3 8\t met "))
    assert chains(one(imported)) == {frozenset(("met",))}
    assert changed(imported) == [("mention", "leading or trailing white space was removed")]


def test_a_mention_of_white_space_is_left_out_by_name(tmp_path):
    assert left_out(read_brat(pair(tmp_path, ann="T1\tPerson 3 4\t "))) == [("mention", "it has no text")]


def test_the_first_annotation_of_a_span_is_kept_and_stands_for_the_second_by_name(tmp_path):
    ann = ANN + "T5\tCity 16 21\tArles\nR3\tborn_in Arg1:T1 Arg2:T5\n"
    imported = read_brat(pair(tmp_path, ann=ann))
    assert left_out(imported) == [("mention", "its span is already a mention")]
    assert relations(one(imported)) == [("Bela", "lived_in", "Arles"), ("Ada", "born_in", "Arles")]
    assert one(imported).gold.chains[2].type == "Place"


def test_mentions_may_nest_and_overlap(tmp_path):
    ann = "T1\tPerson 0 12\tAda met Bela\nT2\tPerson 0 3\tAda\nT3\tX 8 15\tBela in"
    assert len(one(read_brat(pair(tmp_path, ann=ann))).gold.chains) == 3


def test_types_are_chosen_and_renamed_and_take_their_relations_with_them_by_name(tmp_path):
    imported = read_brat(pair(tmp_path), entity_types={"Per*": "PER"})
    assert chains(one(imported)) == {frozenset(("Ada", "She")), frozenset(("Bela",))}
    assert imported.labels.names("mentions") == {"PER"}
    assert left_out(imported) == [
        ("mention", "its type 'Place' is not selected"),
        ("relation", "one of its ends was skipped"),
    ]


def test_events_and_their_triggers_are_left_out_by_name(tmp_path):
    ann = ANN + "T5\tMeeting 4 7\tmet\nE1\tMeeting:T5 Who:T1 Who2:T2\nR3\tknows Arg1:T1 Arg2:E1\n"
    imported = read_brat(pair(tmp_path, ann=ann))
    assert left_out(imported) == [
        ("event", "a corpus cannot represent events"),
        ("mention", "it is the trigger of an event"),
        ("relation", "one of its ends is an event"),
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
        ("R3\tCoref Arg1:T1 Arg2:T9", ("relation", "one of its ends does not exist")),
        ("R3\tCoref Arg1:T8 Arg2:T9", ("relation", "one of its ends does not exist")),
        ("R3\tCoref Arg1:T1 Arg2:T1", ("relation", "it joins a mention to itself")),
        ("*\tEquiv T1 T9", ("equivalence", "one of its ends does not exist")),
        ("*\tEquiv T8 T9", ("equivalence", "one of its ends does not exist")),
        ("*\tEquiv T1 T4 T9 T9", ("end of an equivalence", "one of its ends does not exist")),
        ("*\tEquiv T1 T1", ("equivalence", "it joins a mention to itself")),
        ("*\tAlias T1 T2", ("equivalence", "'Alias' is not among the names of coreference")),
        ("R3\tlived_in Arg1:T9 Arg2:T1", ("relation", "one of its ends does not exist")),
        ("R3\tknows Arg1:T1 Arg2:T4", ("relation", "both of its ends are in the same chain")),
        ("R3\tknows Arg1:T1 Arg2:T1", ("relation", "both of its ends are in the same chain")),
        ("R3\tlived_in Arg1:T2 Arg2:T3", ("relation", "its chains already have it")),
        ("R3\tknows Arg1:T1", ("relation", "it is not 'R1, type Arg1:T1 Arg2:T2'")),
        ("A1\tNegation R1", ("attribute", "a corpus cannot represent attributes")),
        ("N1\tReference T1 Wikipedia:1\tAda", ("normalization", "a corpus cannot represent normalizations")),
        ("#1\tAnnotatorNotes T1\tsure?", ("note", "a corpus cannot represent notes")),
        ("what is this", ("line", "it is not an annotation")),
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
    assert left_out(imported) == [("relation", "its type 'lived_in' is not selected")]


NAMED = "T5\tAda-0 0 3\tAda\nT6\tAda-0 23 26\tShe\nT7\tArles-1 16 21\tArles\nR3\tcop Arg1:T7 Arg2:T5\n"


def test_a_second_type_that_ends_in_a_number_names_the_chain_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN.replace("R1\tCoref Arg1:T4 Arg2:T1\n", "") + NAMED))
    assert chains(one(imported)) == {frozenset(("Ada", "She")), frozenset(("Bela",)), frozenset(("Arles",))}
    assert ("Arles", "cop", "Ada") in relations(one(imported))
    assert imported.left_out == []
    assert changed(imported) == [("mention", "a second type on its span was read as the name of its chain")] * 3


def test_chain_names_may_be_switched_off(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN + NAMED), chain_names=None)
    assert left_out(imported) == [("mention", "its span is already a mention")] * 3


def test_a_type_that_ends_in_a_number_is_a_type_where_it_stands_alone(tmp_path):
    example = one(read_brat(pair(tmp_path, ann="T1\tType-2 0 3\tAda")))
    assert example.gold.chains[0].type == "Type-2"


def test_the_name_of_a_chain_goes_with_its_mention_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, ann="T1\tPlace 0 3\tAda\nT2\tAda-0 0 3\tAda"), entity_types={"Person": ""})
    assert left_out(imported) == [
        ("mention", "its type 'Place' is not selected"),
        ("chain name", "its mention is skipped"),
    ]
