"""CoNLL files: tags, documents, and the tweets of Twitter-2015 and -2017."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3dllm.corpora.conll import read_conll
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.sources import split_of
from m3dllm.errors import UserError
from tests.corpora.tools import changes, counts, reasons, words
from tests.small import png


def read(folder: Path, text: str, name: str = "train.conll", **options) -> Imported:
    (folder / name).write_text(text, encoding="utf-8")
    return read_conll(folder / name, **options)


def tagged(folder: Path, *tags: str) -> list[tuple[str, list[str]]]:
    lines = (f"w{i}\t{tag}" for i, tag in enumerate(tags))
    return words(read(folder, "\n".join(lines)).splits["train"][0])


def test_a_comment_is_no_token_and_counted(tmp_path):
    imported = read(tmp_path, "# id 5 domain=en\nAda B-PER\n# O\n")
    assert imported.splits["train"][0].document.text == "Ada #"
    assert reasons(imported) == [("line", "it is a comment")]


def test_tokens_are_joined_and_keep_their_offsets(tmp_path):
    (example,) = read(tmp_path, "Ada\tB-PER\nmet\tO\nBo\tB-PER\nLi\tI-PER\n").splits["train"]
    assert example.document.text == "Ada met Bo Li"
    assert example.document.tokens == ((0, 3), (4, 7), (8, 10), (11, 13))
    assert words(example) == [("PER", ["Ada"]), ("PER", ["Bo Li"])]
    assert example.unannotated == {"chain", "relation"}


def test_chinese_characters_are_joined_without_spaces(tmp_path):
    (example,) = read(tmp_path, "苏 B-PER\n珊 I-PER\n去 O\n北 B-LOC\n京 I-LOC\n").splits["train"]
    assert (example.document.lang, example.document.text) == ("zh", "苏珊去北京")
    assert words(example) == [("PER", ["苏珊"]), ("LOC", ["北京"])]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (("B-A", "I-A", "B-A"), [("A", ["w0 w1"]), ("A", ["w2"])]),
        (("I-A", "I-A", "I-B"), [("A", ["w0 w1"]), ("B", ["w2"])]),
        (("B-A", "E-A", "S-A", "O"), [("A", ["w0 w1"]), ("A", ["w2"])]),
        (("B-A", "L-A", "U-B"), [("A", ["w0 w1"]), ("B", ["w2"])]),
        (("B-A", "O", "I-A"), [("A", ["w0"]), ("A", ["w2"])]),
        (("B-PER-x", "I-PER-x"), [("PER-x", ["w0 w1"])]),
        (("O", "O"), []),
    ],
)
def test_bio_iob1_and_bioes(tmp_path, tags, found):
    assert tagged(tmp_path, *tags) == found


@pytest.mark.parametrize(
    "tags", ["B-N M-N E-N S-N O", "B-N I-N L-N U-N O", "b-N m-N e-N w-N o", "B_N I_N E_N S_N O", "I-N I-N I-N B-N O"]
)
def test_other_schemes_of_the_same_mentions(tmp_path, tags):
    assert tagged(tmp_path, *tags.split()) == tagged(tmp_path, *("B-N", "I-N", "I-N", "B-N", "O"))


ROWS = {
    "chunks last": "EU B-ORG NNP B-NP\nmet O VBD B-VP\nBo B-PER NNP B-NP\n",
    "POS last": "EU B-ORG NNP\nmet O VBD\nBo B-PER NNP\n",
    "rows numbered": "1\tEU\tB-ORG\tO\n2\tmet\tO\tO\n3\tBo\tB-PER\tB-OTH\n",
    "CoNLL-U": "1 EU eu N N _ 2 subj _ B-ORG\n2 met meet V V _ 0 root _ O\n3 Bo bo N N _ 2 obj _ B-PER\n",
    "numbered from 0, a comment before": "#\thttp://a [1]\n0\tEU\tB-ORG\n1\tmet\tO\n2\tBo\tB-PER\n",
    "gold, then predictions": "EU N B-ORG O\nmet V O O\nBo N B-PER B-ORG\n",
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_columns_of_tokens_and_tags_are_found(tmp_path, rows):
    (example,) = read(tmp_path, rows).splits["train"]
    assert (example.document.text, words(example)) == ("EU met Bo", [("ORG", ["EU"]), ("PER", ["Bo"])])


def test_another_column_of_tags_may_be_asked_for(tmp_path):
    imported = read(tmp_path, ROWS["chunks last"], tags=4)
    assert [kind for kind, _ in words(imported.splits["train"][0])] == ["NP", "VP", "NP"]
    with pytest.raises(UserError, match="--tags 0: columns are counted from 1"):
        read(tmp_path, ROWS["chunks last"], tags=0)


def test_chunks_are_read_where_there_is_nothing_else(tmp_path):
    assert tagged(tmp_path, "B-NP", "I-NP", "O", "B-VP") == [("NP", ["w0 w1"]), ("VP", ["w3"])]


@pytest.mark.parametrize("token", ["10\u00a0000", "x\u3000y", "a\u2028b", "1", "I-95"])
def test_a_token_is_what_stands_before_the_space(tmp_path, token):
    assert read(tmp_path, f"{token} B-X\nis O\n").splits["train"][0].document.text == f"{token} is"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(tmp_path, end):
    (tmp_path / "a.conll").write_bytes(end.join(["Ada\tB-PER", "sang\tO", "", "Bo\tB-PER"]).encode())
    first, second = read_conll(tmp_path / "a.conll").splits["train"]
    assert (words(first), words(second)) == ([("PER", ["Ada"])], [("PER", ["Bo"])])


def test_the_byte_order_marks_of_joined_files_are_no_text(tmp_path):
    first, second = read(tmp_path, "\ufeffAda B-PER\n\n\ufeffBo B-PER\n").splits["train"]
    assert (first.document.text, second.document.text) == ("Ada", "Bo")


def test_a_tag_that_continues_nothing_is_counted(tmp_path):
    assert changes(read(tmp_path, "a O\nb I-PER\n")) == [
        ("tag", "it does not continue a mention: read as the beginning of one"),
    ]


def test_what_is_no_tag_and_what_is_no_row_is_counted(tmp_path):
    imported = read(tmp_path, "a X\nb B-\nalone\nc B-PER\n")
    assert reasons(imported) == [
        ("line", "it is not a token with a tag"),
        ("tag", "it is not a BIO tag: read as O"),
        ("tag", "it is not a BIO tag: read as O"),
    ]
    assert words(imported.splits["train"][0]) == [("PER", ["c"])]


def test_a_block_is_a_document_and_imgid_names_it(tmp_path):
    (tmp_path / "7.png").write_bytes(png())
    imported = read(tmp_path, "IMGID:7\nAda\tB-PER\n\nIMGID:8\nBo\tB-PER\n", images=tmp_path)
    first, second = imported.splits["train"]
    assert [(e.document.id, len(e.document.frames)) for e in (first, second)] == [("7", 1), ("8", 0)]
    assert (first.document.frames[0].width_px, first.document.frames[0].annotated) == (64, False)
    assert reasons(imported) == [("image", "neither its file nor its size is known")]


def test_with_docstart_lines_a_document_is_all_sentences_up_to_the_next(tmp_path):
    text = "-DOCSTART- -X- O O\n\nAda NNP B-NP B-PER\n\nBo NNP B-NP B-PER\n\n-DOCSTART- -X- O O\n\nCy NNP B-NP B-PER\n"
    first, second = read(tmp_path, text, name="eng.testa").splits["train"]
    assert (first.document.text, second.document.text) == ("Ada\nBo", "Cy")


def test_an_id_that_stands_twice_is_changed(tmp_path):
    imported = read(tmp_path, "IMGID:7\nAda\tB-PER\n\nIMGID:7\nBo\tB-PER\n")
    assert [e.document.id for e in imported.splits["train"]] == ["7", "train-2"]
    assert changes(imported) == [("document", "its id is a duplicate: renamed")]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("twitter2015_train.txt", "train"),
        ("valid.txt", "dev"),
        ("mnre_val.txt", "dev"),
        ("validation.txt", "dev"),
        ("训练集.txt", "train"),
        ("eng.txt", None),
        ("labeling.invalid.conll", None),
        ("TEST.bio", "test"),
    ],
)
def test_files_tell_their_split(name, split):
    assert split_of(Path(name)) == split


def test_a_folder_that_has_none_is_named(tmp_path):
    with pytest.raises(UserError, match="expected a file of tokens and tags"):
        read_conll(tmp_path)
    with pytest.raises(UserError, match="has no column of tags"):
        read(tmp_path, "\n\n")


def test_a_file_that_is_not_read_is_in_no_split(tmp_path):
    (tmp_path / "dev.conll").write_text("Ada B-PER\nwrote O\n", encoding="utf-8")
    (tmp_path / "SOURCE.txt").write_text("from somewhere\n", encoding="utf-8")
    imported = read_conll(tmp_path)
    assert (reasons(imported), [*imported.remarks]) == ([("file", "none of its columns has tags")], [])


def test_the_tweets_of_twitter_2015_and_2017(shared_data):
    imported = read_conll(shared_data / "twitter")
    # B- tags, and 186 (53 in valid) I- tags of Twitter-2015 that continue nothing; IMGID lines
    assert counts(imported) == {
        "train": (4000 + 3373, 6166 + 186 + 6049, 12401, 0, 0, 0),
        "dev": (1000 + 723, 1541 + 53 + 1324, 2918, 0, 0, 0),
    }
    assert len(imported.changed) == 186 + 53
    assert reasons(imported) == [("file", "none of its columns has tags")]


def test_the_examples_of_doccano(shared_data):
    data = shared_data / "doccano/backend/data_import/tests/data/sequence_labeling"
    assert counts(read_conll(data / "labeling.trailing.conll"))["train"][:2] == (1, 2)
    assert counts(read_conll(data / "example.conll"))["train"][:2] == (2, 2)
    assert len(read_conll(data / "labeling.invalid.conll").left_out) == 1
