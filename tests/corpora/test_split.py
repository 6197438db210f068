"""Splits of about the ratios asked for, that never cut a source video and depend on the seed alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3dllm.corpora.check import check
from m3dllm.corpora.imported import Counts, Imported
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import Corpus, load_corpus, write_corpus
from m3dllm.corpora.split import hold_out, k_folds, split_corpus, write_split
from m3dllm.errors import UserError
from m3dllm.files import sha256
from m3dllm.types import Example
from tests.small import LABELS, example, small_corpus


def corpus_of(examples: list[Example], tmp_path=None) -> Corpus:
    return Corpus("c", tmp_path, LABELS, {"all": tuple(examples)}, {})


@st.composite
def clips(draw: st.DrawFn, *, least: int = 1, languages: tuple[str, ...] = ("en", "zh")) -> list[Example]:
    """Documents in groups of one to six, or without a group; a group is of one language."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(languages)), min_size=least, max_size=25))
    made = []
    for g, (size, lang) in enumerate(sizes):
        group = "" if size == 1 and draw(st.booleans()) else f"视频 {g}"
        made += [example(f"g{g}d{i}", "", lang=lang, group=group) for i in range(size)]
    return made


def group_of(made: Example) -> tuple[str, str]:
    return ("group", made.document.group) if made.document.group else ("document", made.document.id)


def ids(examples) -> list[str]:
    return [e.document.id for e in examples]


def parts_of(examples: list[Example], **options) -> dict[str, list[Example]]:
    return {name: list(part) for name, part in split_corpus(corpus_of(examples), **options).items()}


@given(made=clips(least=3), seed=st.integers(0, 99))
def test_every_document_is_in_one_split(made, seed):
    parts = parts_of(made, seed=seed)
    assert sorted(ids(e for part in parts.values() for e in part)) == sorted(ids(made))


@given(made=clips(least=3), seed=st.integers(0, 99))
def test_no_group_is_cut(made, seed):
    parts = parts_of(made, seed=seed)
    groups = [{group_of(e) for e in part} for part in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))


@given(made=clips(least=3), data=st.data(), seed=st.integers(0, 99))
def test_the_order_of_the_documents_changes_nothing(made, data, seed):
    assert parts_of(made, seed=seed) == parts_of(data.draw(st.permutations(made)), seed=seed)


@given(made=clips(least=3), ratios=st.lists(st.integers(1, 9), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_a_split_holds_at_most_the_largest_group_more_than_its_share_of_a_language(made, ratios, seed):
    for ratio, part in zip(ratios, parts_of(made, ratios=ratios, seed=seed).values(), strict=True):
        for lang in ("en", "zh"):
            of_lang = [e for e in made if e.document.lang == lang]
            largest = max(Counter(map(group_of, of_lang)).values(), default=0)
            assert sum(e.document.lang == lang for e in part) <= len(of_lang) * ratio / sum(ratios) + largest


@given(made=clips(least=3), seed=st.integers(0, 99))
def test_no_split_is_empty_of_a_language_that_has_a_group_for_each(made, seed):
    parts = parts_of(made, seed=seed)
    for lang in ("en", "zh"):
        if len({group_of(e) for e in made if e.document.lang == lang}) >= 3:
            assert all(any(e.document.lang == lang for e in part) for part in parts.values())


def dealt_plainly(made: list[Example], ratios: list[int], seed: int) -> list[list[str]]:
    """The ids of each part, from lists of whole groups."""
    groups: dict[tuple[str, str], list[Example]] = {}
    for one in made:
        groups.setdefault(group_of(one), []).append(one)
    order = sorted(groups, key=lambda key: (sha256(f"{seed}:{key[1]}".encode()), key[0] == "group"))
    sizes = {key: Counter(one.document.lang for one in groups[key]) for key in order}
    total = sum(sizes.values(), Counter())
    lacks = [{lang: n * ratio / sum(ratios) for lang, n in total.items()} for ratio in ratios]
    parts: list[list[tuple[str, str]]] = [[] for _ in ratios]
    taking = [p for p, ratio in enumerate(ratios) if ratio]
    for key, size in sizes.items():
        p = max(taking, key=lambda p: (sum(n * lacks[p][lang] / total[lang] for lang, n in size.items()), -p))
        parts[p].append(key)
        lacks[p] = {lang: lack - size[lang] for lang, lack in lacks[p].items()}
    for of in (*({key: size[lang] for key, size in sizes.items()} for lang in sorted(total)), sizes):
        for p in taking:
            held = [[key for key in part if of[key]] for part in parts]
            if not held[p] and (spare := [key for part in held if len(part) > 1 for key in part]):
                smallest = min(
                    spare, key=lambda key: (of[key] if of is not sizes else of[key].total(), order.index(key))
                )
                next(part for part in parts if smallest in part).remove(smallest)
                parts[p].append(smallest)
    return [sorted(one.document.id for key in part for one in groups[key]) for part in parts]


@given(
    made=clips(least=3), ratios=st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), seed=st.integers(0, 99)
)
def test_parts_are_those_of_lists_of_whole_groups(made, ratios, seed):
    wanted = [part for part, ratio in zip(dealt_plainly(made, ratios, seed), ratios, strict=True) if ratio]
    assert [ids(part) for part in parts_of(made, ratios=ratios, seed=seed).values()] == wanted


def test_single_documents_come_out_in_the_ratios_exactly():
    made = [example(f"d{i}", "", lang="zh" if i % 2 else "en") for i in range(100)]
    parts = parts_of(made)
    counts = {name: Counter(e.document.lang for e in part) for name, part in parts.items()}
    assert counts == {"train": {"en": 40, "zh": 40}, "dev": {"en": 5, "zh": 5}, "test": {"en": 5, "zh": 5}}


def test_another_seed_gives_another_split():
    made = [example(f"d{i}", "") for i in range(50)]
    assert ids(parts_of(made, seed=0)["test"]) != ids(parts_of(made, seed=1)["test"])


def test_the_split_of_a_seed_is_the_same_for_ever():
    made = [example(f"d{i}", "", group=f"g{i // 2}") for i in range(12)]
    parts = parts_of(made, ratios=(4, 1, 1))
    assert (ids(parts["dev"]), ids(parts["test"])) == (["d10", "d11"], ["d6", "d7"])


def test_a_group_of_both_languages_is_not_cut():
    made = [example(f"{i}.{lang}", "", lang=lang, group=str(i)) for i in range(10) for lang in ("en", "zh")]
    assert {name: len(part) for name, part in parts_of(made).items()} == {"train": 16, "dev": 2, "test": 2}


def test_a_split_of_ratio_0_is_not_made():
    made = [example(f"d{i}", "") for i in range(10)]
    assert {name: len(part) for name, part in parts_of(made, ratios=(4, 0, 1)).items()} == {"train": 8, "test": 2}


def test_only_the_splits_named_are_cut(tmp_path):
    corpus = load_corpus(small_corpus(tmp_path / "c"))
    parts = split_corpus(corpus, only=["train"], ratios=(3, 1), names=("a", "b"))
    assert sorted(ids(e for part in parts.values() for e in part)) == sorted(ids(corpus["train"]))
    with pytest.raises(UserError, match="has no split 'x'; it has train, dev, test"):
        split_corpus(corpus, only=["x"])


@pytest.mark.parametrize("ratios", [(8, 1), (0, 0, 0), (8, -1, 1), (8, 1, float("nan")), (8, 1, float("inf"))])
def test_ratios_that_are_none_are_named(ratios):
    with pytest.raises(UserError, match=r"ratios .*: expected"):
        parts_of([example("d", "")], ratios=ratios)


def test_fewer_groups_than_splits_are_named():
    with pytest.raises(UserError, match="has 2 source videos; 3 splits need at least 3"):
        parts_of([example(f"d{i}", "", group=f"g{i % 2}") for i in range(9)])


def test_a_written_split_is_a_corpus_with_its_frames(tmp_path):
    corpus = load_corpus(small_corpus(tmp_path / "c"))
    write_split(tmp_path / "s", corpus, split_corpus(corpus, ratios=(2, 1, 1)))
    report = check(tmp_path / "s")
    assert [str(p) for p in report.problems] == []
    written = load_corpus(tmp_path / "s")
    assert Counts.of(e for s in written.splits.values() for e in s) == Counts.of(
        e for s in corpus.splits.values() for e in s
    )


@settings(max_examples=60)
@given(made=clips(least=4), k=st.integers(2, 4), seed=st.integers(0, 9))
def test_each_document_is_in_one_fold_and_its_group_never_in_the_rest(made, k, seed):
    folds = k_folds(made, k, seed=seed)
    assert len(folds) == k
    assert sorted(ids(e for _, fold in folds for e in fold)) == sorted(ids(made))
    for rest, fold in folds:
        assert fold
        assert sorted(ids([*rest, *fold])) == sorted(ids(made))
        assert not {group_of(e) for e in rest} & {group_of(e) for e in fold}


def test_folds_that_cannot_be_are_named():
    made = [example(f"d{i}", "", group=f"g{i % 3}") for i in range(9)]
    for k in (1, 4):
        with pytest.raises(UserError, match=f"{k} folds of 3 source videos: expected 2 to 3 folds"):
            k_folds(made, k)


@given(made=clips(least=2), seed=st.integers(0, 9))
def test_what_is_held_out_cuts_no_group_and_leaves_something(made, seed):
    rest, held = hold_out(made, seed=seed)
    assert rest
    assert held
    assert sorted(ids([*rest, *held])) == sorted(ids(made))
    assert not {group_of(e) for e in rest} & {group_of(e) for e in held}


def test_a_tenth_is_held_out_in_each_language():
    made = [example(f"d{i}", "", lang="zh" if i % 2 else "en") for i in range(40)]
    _, held = hold_out(made)
    assert Counter(e.document.lang for e in held) == {"en": 2, "zh": 2}


def test_nothing_can_be_held_out_of_one_group():
    with pytest.raises(UserError, match="has 2 documents of one source video; no part can be held out"):
        hold_out([example("a", "", group="g"), example("b", "", group="g")])
    with pytest.raises(UserError, match="has no document; no part can be held out"):
        hold_out([])


def test_the_m3d_development_sets_are_divided_by_source_video(shared_data, tmp_path):
    write_corpus(tmp_path / "m3d", read_m3d(shared_data / "m3d"))
    parts = split_corpus(load_corpus(tmp_path / "m3d"), seed=0)
    groups = {name: {e.document.group for e in part} for name, part in parts.items()}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 67 + 78
    shares = {n: Counter(e.document.lang for e in part) for n, part in parts.items()}
    for lang, total in (("en", 205), ("zh", 203)):
        assert abs(shares["train"][lang] - 0.8 * total) <= 4
        assert abs(shares["dev"][lang] - 0.1 * total) <= 4
        assert abs(shares["test"][lang] - 0.1 * total) <= 4


def test_an_unwritten_split_leaves_nothing(tmp_path):
    corpus = load_corpus(small_corpus(tmp_path / "c"))
    (tmp_path / "c/frames/train0/0.png").unlink()
    with pytest.raises(UserError, match=r"frames/train0/0\.png: the image of a frame cannot be read"):
        write_split(tmp_path / "s", corpus, split_corpus(corpus))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert isinstance(write_split(tmp_path / "t", corpus, {"dev": [example("a", "")]}), Imported)
