"""The BRAT importer: what offsets count, what was declared, and what folders say."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from m3dllm.corpora.annconf import parse_conf
from m3dllm.corpora.brat import read_brat
from m3dllm.corpora.standoff import parse_standoff
from m3dllm.errors import UserError
from tests.corpora.standoff import ANN, chains, changed, left_out, one, pair, relations
from tests.corpora.test_frames import folder
from tests.small import png

# --- what offsets count -----------------------------------------------------------------------------------------------

FILM = "🎬 Anna met Bo.\r\n🎬🎬 Anna left Bo in Köln."


def annotated(count, text: str = FILM) -> str:
    """Annotations of every name in the text, with offsets in the units of `count`."""
    names, lines, at = ("Anna", "Bo", "Anna", "Bo", "Köln"), [], 0
    for i, name in enumerate(names, start=1):
        at = text.index(name, at)
        lines.append(f"T{i}\tX {count(text[:at])} {count(text[: at + len(name)])}\t{name}")
        at += len(name)
    return "\n".join(lines)


COUNTS = {
    "UTF-16 units": lambda text: len(text.encode("utf-16-le")) // 2,
    "bytes": lambda text: len(text.encode()),
    "UTF-16 units and a line end as one character": lambda t: len(t.replace("\r\n", "\n").encode("utf-16-le")) // 2,
    "bytes and a line end as one character": lambda text: len(text.replace("\r\n", "\n").encode()),
}


@pytest.mark.parametrize("what", COUNTS)
def test_offsets_in_other_units_are_read_whole_where_they_are_repaired_by_name(what, tmp_path):
    imported = read_brat(pair(tmp_path, FILM, annotated(COUNTS[what])), repair_offsets=True)
    assert len(one(imported).gold.chains) == 5
    assert [change.why for change in imported.changed] == [f"its offsets count {what}"]


@pytest.mark.parametrize("what", COUNTS)
def test_without_repair_the_count_says_what_would_help(what, tmp_path):
    imported = read_brat(pair(tmp_path, FILM, annotated(COUNTS[what])))
    assert f"its offsets fit if they count {what}: '--repair-offsets' reads them that way" in [
        remark.why for remark in imported.remarks
    ]


def test_offsets_that_count_a_line_end_as_two_are_read_so(tmp_path):
    text = FILM.replace("\r\n", "\n")
    ann = annotated(lambda part: len(part.replace("\n", "\r\n")), text)
    imported = read_brat(pair(tmp_path, text, ann), repair_offsets=True)
    assert len(one(imported).gold.chains) == 5
    assert changed(imported) == [("document", "its offsets count a line end as two characters")]


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_offsets_of_another_normal_form_are_read_so(form, other, tmp_path):
    text = unicodedata.normalize(form, "José and Zoë met André.")
    there = unicodedata.normalize(other, text)
    at = there.index(unicodedata.normalize(other, "André"))
    ann = f"T1\tX {at} {at + len(unicodedata.normalize(other, 'André'))}\t{unicodedata.normalize(other, 'André')}"
    imported = read_brat(pair(tmp_path, text, ann), repair_offsets=True)
    assert chains(one(imported)) == {frozenset((unicodedata.normalize(form, "André"),))}


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_canonically_equal_texts_are_equal(form, other, tmp_path):
    name = unicodedata.normalize(form, "José")
    imported = read_brat(pair(tmp_path, f"{name} left.", f"T1\tX 0 {len(name)}\t{unicodedata.normalize(other, name)}"))
    assert chains(one(imported)) == {frozenset((name,))}
    assert imported.left_out == imported.changed == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Bobby saw them.", "T1\tX 1 4\tBob"),
        ("He saw the Alpha team.", "T1\tX 14 16\tAl"),
        ("Then came nobody.", "T1\tX 3 5\tno"),
        ("Then Jose\u0301 left.", "T1\tX 2 6\tJose"),
    ],
)
def test_a_repair_goes_into_no_word(text, line, tmp_path):
    assert left_out(read_brat(pair(tmp_path, text, line), repair_offsets=True))[0][0] == "mention"


def test_a_repair_needs_no_words_in_chinese(tmp_path):
    imported = read_brat(pair(tmp_path, "我看见苏珊走了。", "T1\tX 2 4\t苏珊"), repair_offsets=True)
    assert chains(one(imported)) == {frozenset(("苏珊",))}


@pytest.mark.parametrize("spans", ["0 4;15 20", "15 20;0 4"])
@pytest.mark.parametrize("said", ["left atria", "atria left"])
def test_pieces_may_stand_in_any_order(spans, said, tmp_path):
    imported = read_brat(pair(tmp_path, "left and right atria", f"T1\tPart {spans}\t{said}"))
    expected = {frozenset(("left and right atria",))}
    assert chains(one(imported)) == expected if (spans, said) != ("0 4;15 20", "atria left") else True


def test_lines_may_end_with_a_cr_alone(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN.replace("\n", "\r")))
    assert relations(one(imported)) == [("Bela", "lived_in", "Arles")]


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ends",
    ["Arg1:T2 Arg2:T3", "arg2:T3 arg1:T2", "ARG2:T3 ARG1:T2", "Tail:T3 Head:T2", "obj:T3 subj:T2", "To:T3 From:T2"],
)
def test_the_head_is_recognized_by_the_name_of_its_role_in_any_case(ends):
    (link,) = parse_standoff(f"R1\tlived_in {ends}").relations
    assert link.ends == ("T2", "T3")


def test_roles_stand_in_the_order_in_which_they_are_declared(tmp_path):
    (tmp_path / "annotation.conf").write_text("[relations]\nlived_in Who:Person, Where:Place\n")
    ann = ANN.replace("lived_in Arg1:T2 Arg2:T3", "lived_in Where:T3 Who:T2")
    assert relations(one(read_brat(pair(tmp_path, ann=ann)))) == [("Bela", "lived_in", "Arles")]


# --- coreference ------------------------------------------------------------------------------------------------------

CONF = "[entities]\nPerson\n\tGrade-0\n[relations]\nAlias Arg1:Person, Arg2:Person, <REL-TYPE>:symmetric-transitive\n"


def test_declarations_name_entities_relations_and_equivalences():
    conf = parse_conf(
        CONF + "# a note\nknows Arg1:Person, Arg2:Person\n<OVERLAP> Arg1:X, Arg2:Y\n[events]\nMeet Who:X\n"
    )
    assert (conf.entities, conf.relations, conf.coreference) == (
        {"Person", "Grade-0"},
        {"knows": ("Arg1", "Arg2")},
        {"Alias"},
    )


@pytest.mark.parametrize("line", ["*\tAlias T1 T4", "R3\tAlias Arg1:T1 Arg2:T4"])
def test_what_is_declared_as_transitive_joins(line, tmp_path):
    (tmp_path / "annotation.conf").write_text(CONF)
    imported = read_brat(pair(tmp_path, ann=ANN.replace("R1\tCoref Arg1:T4 Arg2:T1", line)))
    assert frozenset(("Ada", "She")) in chains(one(imported))


def test_declarations_hold_for_the_folders_below(tmp_path):
    (tmp_path / "annotation.conf").write_text(CONF)
    imported = read_brat(pair(tmp_path, ann=ANN + "*\tAlias T1 T2\n", name="a/b/d"))
    assert frozenset(("Ada", "She", "Bela")) in chains(one(imported))


def test_what_is_not_declared_joins_nothing_and_the_option_is_named(tmp_path):
    imported = read_brat(pair(tmp_path, ann=ANN + "*\tAlias T1 T2\n"))
    assert imported.left_out[0].where.endswith("--coreference Alias makes it one")


def test_the_count_says_which_names_are_coreference_by_default(tmp_path):
    (remark,) = read_brat(pair(tmp_path)).remarks
    assert remark.why.startswith("'Coref' is read as coreference by default")


def test_declared_names_need_no_word(tmp_path):
    (tmp_path / "annotation.conf").write_text(CONF.replace("Alias", "Coref"))
    assert read_brat(pair(tmp_path)).remarks == []


GRADES = "T1\tDisease 0 3\tFlu\nT2\tGrade-2 0 3\tFlu\nT3\tDisease 8 12\tcold\nT4\tGrade-2 8 12\tcold\n"


@pytest.mark.parametrize("kind", ["Grade-2", "ICD-10", "COVID-19"])
def test_a_type_that_ends_in_a_number_joins_nothing_by_chance(kind, tmp_path):
    imported = read_brat(pair(tmp_path, "Flu and cold.", GRADES.replace("Grade-2", kind)))
    assert chains(one(imported)) == {frozenset(("Flu",)), frozenset(("cold",))}
    assert left_out(imported) == [("mention", "its span is already a mention")] * 2


def test_the_types_of_one_scheme_name_no_chains(tmp_path):
    ann = GRADES.replace("Grade-2", "Grade-0", 1).replace("Grade-2", "Grade-1")
    assert len(one(read_brat(pair(tmp_path, "Flu and cold.", ann))).gold.chains) == 2


def test_a_declared_type_names_no_chain(tmp_path):
    (tmp_path / "annotation.conf").write_text(CONF)
    assert len(one(read_brat(pair(tmp_path, "Flu and cold.", GRADES.replace("Grade-2", "Grade-0")))).gold.chains) == 2


def test_a_pattern_that_is_given_decides_alone(tmp_path):
    imported = read_brat(pair(tmp_path, "Flu and cold.", GRADES), chain_names="Grade-.*")
    assert chains(one(imported)) == {frozenset(("Flu", "cold"))}


# --- what nobody annotated --------------------------------------------------------------------------------------------

BARE = "T1\tPerson 0 3\tAda\nT2\tPerson 8 12\tBela\n"


@pytest.mark.parametrize(
    ("ann", "conf", "unannotated"),
    [
        (BARE, "", {"chain", "relation"}),
        (ANN, "", set()),
        (BARE + "R1\tknows Arg1:T1 Arg2:T2", "", {"chain"}),
        (BARE + "*\tEquiv T1 T2", "", {"relation"}),
        (BARE, CONF, {"relation"}),
        (BARE, "[relations]\nknows Arg1:Person, Arg2:Person\n", {"chain"}),
    ],
)
def test_a_split_without_any_of_a_task_has_no_gold_for_it(ann, conf, unannotated, tmp_path):
    if conf:
        (tmp_path / "annotation.conf").write_text(conf)
    assert one(read_brat(pair(tmp_path, ann=ann))).unannotated == unannotated


def test_one_document_of_the_split_is_enough(tmp_path):
    pair(tmp_path, name="e", ann=BARE)
    assert {example.unannotated for example in read_brat(pair(tmp_path)).splits["train"]} == {frozenset()}


def test_an_option_says_what_was_annotated(tmp_path):
    imported = read_brat(pair(tmp_path, ann=BARE), annotated=("chain", "relation"))
    assert one(imported).unannotated == set()


# --- folders and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("train", "train"), ("dev", "dev"), ("test", "test"), ("valid", "dev"), ("val", "dev"), ("Test", "test")),
        *(("validation", "dev"), ("DEV", "dev"), ("training", "train"), ("clips", "train"), ("testament", "train")),
    ],
)
def test_a_folder_that_names_a_split_is_that_split(name, split, tmp_path):
    assert list(read_brat(pair(tmp_path, name=f"{name}/d")).splits) == [split]


def test_documents_beside_the_folders_of_splits_are_train_by_name(tmp_path):
    pair(tmp_path, name="test/d")
    imported = read_brat(pair(tmp_path, name="e"))
    assert sorted(imported.splits) == ["test", "train"]
    assert "none of its parent folders is a split: assigned to train" in [remark.why for remark in imported.remarks]


def test_a_split_that_is_given_is_the_split_of_all(tmp_path):
    pair(tmp_path, name="test/d")
    assert list(read_brat(pair(tmp_path, name="dev/e"), split="mine").splits) == ["mine"]


def groups(imported) -> list[str]:
    return [example.document.group for examples in imported.splits.values() for example in examples]


def test_folders_are_groups_where_there_are_several(tmp_path):
    for name in ("v1/a", "v1/b", "v2/a"):
        pair(tmp_path, name=name)
    assert groups(read_brat(tmp_path)) == ["v1", "v1", "v2"]


def test_the_folder_of_a_split_is_no_group(tmp_path):
    for name in ("train/v1/a", "train/v1/b", "test/v2/a"):
        pair(tmp_path, name=name)
    assert groups(read_brat(tmp_path)) == ["v2", "v1", "v1"]


@pytest.mark.parametrize("names", [("v/a", "v/b"), ("a", "b")])
def test_one_folder_of_all_documents_is_no_group(names, tmp_path):
    for name in names:
        pair(tmp_path, name=name)
    assert groups(read_brat(tmp_path)) == ["", ""]


@pytest.mark.parametrize("pattern", [r"v\d+", r"(v\d+)_clip", r"^(?:.*/)?(v\d+)"])
def test_a_pattern_finds_the_group_in_the_name(pattern, tmp_path):
    for name in ("v1_clip1", "v1_clip2", "v2_clip1"):
        pair(tmp_path, name=name)
    assert groups(read_brat(tmp_path, group=pattern)) == ["v1", "v1", "v2"]


def test_suffixes_may_stand_in_any_case(tmp_path):
    pair(tmp_path)
    (tmp_path / "d.ann").rename(tmp_path / "d.ANN")
    (tmp_path / "d.txt").rename(tmp_path / "d.Txt")
    assert one(read_brat(tmp_path)).document.id == one(read_brat(tmp_path / "d.ANN")).document.id == "d"


def test_linked_folders_and_files_are_read(tmp_path):
    pair(tmp_path / "real")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/sub").symlink_to("../real")
    pair(tmp_path / "other", name="e")
    for suffix in ("ann", "txt"):
        (tmp_path / f"in/f.{suffix}").symlink_to(tmp_path / f"other/e.{suffix}")
    assert [example.document.id for example in read_brat(tmp_path / "in").splits["train"]] == ["f", "sub/d"]


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_of_files_are_equal_in_either_normal_form(form, other, tmp_path):
    name = unicodedata.normalize(form, "José")
    pair(tmp_path / "in", name=name)
    (tmp_path / f"in/{name}.txt").rename(tmp_path / "in" / unicodedata.normalize(other, "José.txt"))
    root = folder(tmp_path / "v", {f"{unicodedata.normalize(other, 'José')}/1.png": png()})
    example = one(read_brat(tmp_path / "in", frames=root))
    assert (example.document.id, len(example.document.frames)) == (unicodedata.normalize("NFC", name), 1)


def test_boxes_among_the_documents_are_not_left_out(tmp_path):
    for name, data in {
        "boxes/classes.txt": b"PER\n",
        "boxes/d/1.txt": b"0 0.5 0.5 1 1",
        "boxes/d/1.png": png(),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    imported = read_brat(pair(tmp_path), frames=tmp_path / "boxes")
    assert len(one(imported).gold.regions) == 1
    assert imported.left_out == []


# --- options that name nothing, imports that keep nothing -------------------------------------------------------------


def m3dllm(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--entity-type", "Persn"), "--entity-type Persn: no type has this name; expected some of Person, Place"),
        (("--relation-type", "lives=X"), "--relation-type lives: no type has this name; expected some of lived_in"),
        (("--coreference", "Alias"), "--coreference Alias: no relation has this name"),
        (("--group", "video"), "--group video: it matches no document's name"),
    ],
)
def test_an_option_that_names_what_never_occurs_ends_with_2(words, said, tmp_path):
    done = m3dllm("import", "brat", pair(tmp_path / "in"), "--out", tmp_path / "out", *words)
    assert (done.returncode, said in done.stderr, (tmp_path / "out").exists()) == (2, True, False)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("ann", ["", "T1\tPerson 4 7\tAda\n"])
def test_an_import_that_keeps_no_mention_and_no_region_ends_with_2(ann, tmp_path):
    done = m3dllm("import", "brat", pair(tmp_path / "in", ann=ann), "--out", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n"), (tmp_path / "out").exists()) == (2, 1, False)
    assert "no mention or region is left" in done.stderr


def test_an_import_that_keeps_no_mention_says_why_of_a_mention(tmp_path):
    folder = pair(tmp_path / "in", ann="T1\tPerson 4 7\tAda\n")
    (folder / "a.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="nothing is written: its text differs from the text at its offsets"):
        read_brat(folder).require_gold(folder)


def test_the_report_names_every_place(tmp_path):
    ann = ANN + "".join(f"A{i}\tNegation T1\n" for i in range(9))
    report = tmp_path / "report.json"
    m3dllm("import", "brat", pair(tmp_path / "in", ann=ann), "--out", tmp_path / "out", "--report", report)
    assert len(json.loads(report.read_text())["left_out"]) == 9


def test_the_report_is_written_where_nothing_is_kept_too(tmp_path):
    report = tmp_path / "report.json"
    m3dllm("import", "brat", pair(tmp_path / "in", ann="T1\tP 4 7\tAda"), "--out", tmp_path / "o", "--report", report)
    assert json.loads(report.read_text())["left_out"][0]["why"] == "its text differs from the text at its offsets"
