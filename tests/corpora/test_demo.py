"""The demo corpus: what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from PIL import Image

from m3dllm.corpora.demo import DOCUMENTS, demo_corpus, frame_only_facts, generate_demo, prose_zh
from m3dllm.corpora.demo.clip import LENGTHS
from m3dllm.corpora.demo.pictures import COLOURS, MARK_COLOURS
from m3dllm.corpora.demo.plan import MARKED_ORGS, MARKED_PAIRS, MARKED_PLACES
from m3dllm.corpora.native import Corpus, load_corpus
from m3dllm.types import Chain, Example
from m3dllm.wire import encode_example, lines
from tests.corpora.demo import LANGS, SPLITS, demo_folder, examples, words

SMALL = {"train": 12, "dev": 4, "test": 6}
PRONOUNS = {"he", "she", "him", "her", "his", "they", "them", "it", "its", "their", "who", "他", "她", "它", "两人"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return load_corpus(folder)


@pytest.fixture(scope="module")
def hidden(folder: Path) -> frozenset[tuple[str, int]]:
    return frame_only_facts(folder)


# --- making it --------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_bytes_in_another_process():
    code = f"""
from m3dllm.corpora.demo import EVIDENCE, generate_demo
from m3dllm.files import sha256
from m3dllm.wire import encode_example, lines
made = generate_demo(3, documents={SMALL})
print(*(sha256(lines(map(encode_example, split))) for split in made.splits.values()), sha256(made.images[EVIDENCE]))
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


def test_another_seed_gives_another_corpus():
    first, second = (generate_demo(seed, documents={"dev": 3}).splits["dev"] for seed in (0, 1))
    texts = [{example.document.text for example in made if example.document.text} for made in (first, second)]
    assert texts[0].isdisjoint(texts[1])


def test_the_documents_of_a_split_do_not_depend_on_the_other_splits():
    alone = generate_demo(2, documents={"dev": 4}).splits["dev"]
    assert generate_demo(2, documents=SMALL).splits["dev"] == alone


def test_one_language_can_be_made_alone():
    made = generate_demo(documents={"dev": 4}, languages=("zh",))
    assert {example.document.lang for example in made.splits["dev"]} == {"zh"}


def test_no_documents_are_no_examples():
    assert generate_demo(documents={"train": 0}).splits == {"train": []}


@pytest.mark.parametrize("documents", [{"validation": 3}, {"train": -1}])
def test_an_unknown_split_or_a_negative_count_is_refused(documents: dict[str, int]):
    with pytest.raises(ValueError, match="expected 0 or more of train, dev, test"):
        generate_demo(documents=documents)


def test_the_cached_corpus_is_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("M3DLLM_CACHE", str(folder.parent))
    before = (folder / "train.jsonl").stat()
    assert demo_corpus() == folder
    assert (folder / "train.jsonl").stat() == before


def test_the_cache_follows_xdg_where_nothing_else_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "m3dllm").symlink_to(folder.parent)
    monkeypatch.delenv("M3DLLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo_corpus() == tmp_path / "m3dllm" / folder.name


def test_the_corpus_on_disk_is_the_generated_one(folder: Path, hidden: frozenset[tuple[str, int]]):
    made = generate_demo()
    assert (folder / "test.jsonl").read_bytes() == lines(map(encode_example, made.splits["test"]))
    assert frame_only_facts(made) == hidden


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_it_has_as_many_documents_as_it_says(corpus: Corpus):
    counts = {split: Counter(e.document.lang for e in corpus[split]) for split in SPLITS}
    assert counts == {split: {"en": n, "zh": n} for split, n in DOCUMENTS.items()}
    assert sum(map(len, corpus.splits.values())) >= 240


def test_every_type_is_one_that_the_label_set_has(corpus: Corpus):
    assert [p for split in SPLITS for e in corpus[split] for p in corpus.labels.unknown(e.gold)] == []


def test_every_relation_joins_chains_of_its_types(corpus: Corpus):
    for split in SPLITS:
        for example in corpus[split]:
            types = {chain.id: chain.type for chain in example.gold.chains}
            for relation in example.gold.relations:
                label = corpus.labels.relation(relation.type)
                assert label is not None
                assert label.joins(types[relation.head], types[relation.tail]), relation


def test_no_relation_stands_twice(corpus: Corpus):
    for split in SPLITS:
        for example in corpus[split]:
            facts = [
                (r.type, *(sorted((r.head, r.tail)) if r.type in corpus.labels.symmetric else (r.head, r.tail)))
                for r in example.gold.relations
            ]
            assert len(set(facts)) == len(facts)


def test_mentions_lie_on_tokens_and_do_not_overlap(corpus: Corpus):
    for split in SPLITS:
        for example in corpus[split]:
            starts, ends = ({t[i] for t in example.document.tokens} for i in (0, 1))
            mentions = sorted(example.gold.mentions)
            assert all(m.start in starts and m.end in ends for m in mentions)
            assert all(a.end <= b.start for a, b in pairwise(mentions))


def test_texts_are_tokenized_like_m3d(corpus: Corpus):
    for split in SPLITS:
        for example in corpus[split]:
            text, tokens = example.document.text, [example.document.text[a:b] for a, b in example.document.tokens]
            assert tokens == ((text.split(" ") if text else []) if example.document.lang == "en" else list(text))


@pytest.mark.parametrize("lang", LANGS)
def test_texts_have_the_length_of_a_short_biography(corpus: Corpus, lang: str):
    low, high = LENGTHS[lang]  # type: ignore[index]
    assert (low, high) == {"en": (60, 180), "zh": (100, 300)}[lang]
    lengths = [len(e.document.tokens) for e in examples(corpus, lang) if e.document.text]
    assert low <= min(lengths) <= max(lengths) <= high


def test_segments_cover_the_text_in_order(corpus: Corpus):
    for split in SPLITS:
        for example in corpus[split]:
            covered = {i for s in example.document.segments for i in range(s.start, s.end)}
            assert all(set(range(*token)) <= covered for token in example.document.tokens)
            times = [t for s in example.document.segments for t in (s.start_s, s.end_s)]
            assert times == sorted(times)


def test_a_video_has_one_to_three_clips_and_no_split_cuts_it(corpus: Corpus):
    videos = {split: Counter(e.document.group for e in corpus[split]) for split in SPLITS}
    assert {n for counts in videos.values() for n in counts.values()} == {1, 2, 3}
    assert all(videos[a].keys().isdisjoint(videos[b]) for a, b in combinations(SPLITS, 2))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("lang", LANGS)
def test_some_documents_lack_text_and_some_frames(corpus: Corpus, lang: str, split: str):
    kinds = Counter((bool(e.document.text), bool(e.document.frames)) for e in examples(corpus, lang, split))
    n = DOCUMENTS[split]
    assert 1 <= kinds[False, True] <= 0.05 * n
    assert 1 <= kinds[True, False] <= 0.05 * n
    assert kinds[False, False] == (split == "test")


def test_a_document_without_text_has_regions_alone(corpus: Corpus):
    silent = [e for split in SPLITS for e in corpus[split] if e.document.frames and not e.document.text]
    assert all(e.gold.regions and not (e.gold.chains or e.gold.relations) for e in silent)


def test_frames_are_numbered_by_the_second_with_gaps(corpus: Corpus):
    for split in SPLITS:
        for example in corpus[split]:
            numbers = [frame.index for frame in example.document.frames]
            assert all(number % 24 == 0 for number in numbers)
            assert numbers == sorted(numbers)
            assert numbers == [] or numbers != list(range(0, 24 * len(numbers), 24))


def test_some_frames_are_not_annotated_and_some_annotated_ones_are_empty(corpus: Corpus):
    kinds: Counter[tuple[bool, bool]] = Counter()
    for split in SPLITS:
        for example in corpus[split]:
            shown = {region.frame for region in example.gold.regions}
            kinds.update((frame.annotated, frame.index in shown) for frame in example.document.frames)
    assert kinds[False, True] == 0
    assert min(kinds[False, False], kinds[True, False], kinds[True, True]) > 50


def test_every_frame_is_an_image_of_the_stated_size(corpus: Corpus):
    for example in corpus["dev"]:
        for frame in example.document.frames:
            with Image.open(frame.path) as image:
                image.load()
                assert image.size == (frame.width_px, frame.height_px)


# --- what makes it worth learning from --------------------------------------------------------------------------------


def names_in(some: list[Example]) -> set[str]:
    """Every name of a person, place or organization, and every word of a person's name."""
    found = set()
    for example in some:
        for mention in example.gold.mentions:
            text = words(example, mention)
            role = text.startswith(tuple("这他她")) if example.document.lang == "zh" else not is_name(text)
            if mention.type != "TIME" and not role:
                found.add(text)
                if mention.type == "PER" and example.document.lang == "en":
                    found |= set(text.split()) - {"Mr", "Mrs", "Miss"}
    return found


def is_name(text: str) -> bool:
    return text.split()[0].lower() not in {"the", "his", "her", "their"}


@pytest.mark.parametrize("lang", LANGS)
def test_no_name_stands_in_two_splits(corpus: Corpus, lang: str):
    names = {split: names_in(examples(corpus, lang, split)) for split in SPLITS}
    assert all(names[a].isdisjoint(names[b]) for a, b in combinations(SPLITS, 2))
    assert sum(map(len, names.values())) > 1000
    assert len(names["test"]) > 200


@pytest.mark.parametrize("lang", LANGS)
def test_a_salted_corpus_shares_no_name_with_the_default_one(corpus: Corpus, lang: str):
    other = generate_demo(5, documents=SMALL, languages=(lang,), names_salt="pretraining")  # type: ignore[arg-type]
    theirs = names_in([example for split in SPLITS for example in other.splits[split]])
    assert len(theirs) > 100
    assert theirs.isdisjoint(names_in(examples(corpus, lang)))


@pytest.mark.parametrize("lang", LANGS)
def test_no_pronoun_is_a_mention(corpus: Corpus, lang: str):
    texts = {words(e, m).lower() for e in examples(corpus, lang) for m in e.gold.mentions}
    assert texts & PRONOUNS == set()


def test_pronouns_and_role_nouns_are_frequent(corpus: Corpus):
    english = examples(corpus, "en")
    pronouns = sum(len(re.findall(r"\b(?:he|she|him)\b", e.document.text, re.IGNORECASE)) for e in english)
    roles = sum(not is_name(words(e, m)) for e in english for m in e.gold.mentions)
    assert pronouns > 150
    assert roles > 300


@pytest.mark.parametrize("lang", LANGS)
def test_half_of_the_people_are_called_in_two_ways_or_more(corpus: Corpus, lang: str):
    forms = [
        len({words(e, m) for m in chain.mentions})
        for e in examples(corpus, lang)
        for chain in e.gold.chains
        if chain.type == "PER"
    ]
    assert sum(n > 1 for n in forms) > 0.5 * len(forms)


@pytest.mark.parametrize("lang", LANGS)
def test_many_documents_have_two_people_of_one_surname(corpus: Corpus, lang: str):
    some = [e for e in examples(corpus, lang) if e.document.text]

    def surname(example: Example, chain: Chain) -> str:
        full = [words(example, m) for m in chain.mentions if is_name(words(example, m))]
        return max(full, key=len, default="?").split()[-1] if lang == "en" else max(full, key=len, default="?")[:1]

    shared = 0
    for example in some:
        surnames = Counter(surname(example, chain) for chain in example.gold.chains if chain.type == "PER")
        shared += any(n > 1 for name, n in surnames.items() if name not in "?他她这")
    assert shared > 0.3 * len(some)


@pytest.mark.parametrize("lang", LANGS)
def test_some_pairs_bear_two_relations(corpus: Corpus, lang: str):
    some = examples(corpus, lang)
    pairs = [Counter(frozenset((r.head, r.tail)) for r in e.gold.relations) for e in some]
    assert sum(any(n > 1 for n in found.values()) for found in pairs) > 0.2 * len(some)


@pytest.mark.parametrize("lang", LANGS)
def test_some_people_are_in_frames_and_some_are_not(corpus: Corpus, lang: str):
    seen = [
        chain.id in {region.chain for region in e.gold.regions}
        for e in examples(corpus, lang)
        for chain in e.gold.chains
        if chain.type == "PER"
    ]
    assert 0.2 < sum(seen) / len(seen) < 0.8


@pytest.mark.parametrize("lang", LANGS)
def test_some_people_in_frames_are_nobody_in_the_text(corpus: Corpus, lang: str):
    full = [e for e in examples(corpus, lang) if e.document.text]
    assert sum(region.chain is None for e in full for region in e.gold.regions) > 50


# --- facts that only frames show --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("lang", LANGS)
def test_fifteen_percent_of_the_relations_stand_in_frames_alone(
    corpus: Corpus, hidden: frozenset[tuple[str, int]], lang: str, split: str
):
    facts = [(e.document.id, i) for e in examples(corpus, lang, split) for i in range(len(e.gold.relations))]
    assert sum(fact in hidden for fact in facts) >= 0.15 * len(facts)


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("types", [MARKED_PAIRS, MARKED_PLACES, MARKED_ORGS], ids=["pairs", "places", "orgs"])
def test_what_is_shown_cannot_be_guessed_from_the_types(
    corpus: Corpus, hidden: frozenset[tuple[str, int]], types: tuple[str, ...], lang: str
):
    shown = Counter(
        r.type
        for e in examples(corpus, lang)
        for i, r in enumerate(e.gold.relations)
        if (e.document.id, i) in hidden and r.type in types
    )
    assert set(shown) == set(types)
    assert max(shown.values()) <= 0.4 * shown.total()


@pytest.mark.parametrize("split", SPLITS)
def test_the_frame_of_a_hidden_fact_tells_which_it_is(corpus: Corpus, hidden: frozenset[tuple[str, int]], split: str):
    for example in corpus[split]:
        for pair, said in together(example).items():
            facts = {
                relation.type
                for i, relation in enumerate(example.gold.relations)
                if (example.document.id, i) in hidden and {relation.head, relation.tail} == set(pair)
            }
            assert facts == said, (example.document.id, pair)


def test_every_hidden_fact_has_its_frame(corpus: Corpus, hidden: frozenset[tuple[str, int]]):
    shown = {
        (example.document.id, i)
        for split in SPLITS
        for example in corpus[split]
        if (pairs := together(example))
        for i, relation in enumerate(example.gold.relations)
        if frozenset((relation.head, relation.tail)) in pairs
    }
    assert hidden <= shown


def together(example: Example) -> dict[frozenset[str], set[str]]:
    """Every two chains that share a frame, and the relations that the mark between them says, read off its colour."""
    types = {chain.id: chain.type for chain in example.gold.chains}
    found: dict[frozenset[str], set[str]] = {}
    for frame in example.document.frames:
        regions = [r for r in example.gold.regions if r.frame == frame.index and r.chain]
        if len(regions) == 2:
            left, right = sorted(regions, key=lambda r: r.box.x0)
            kinds = sorted(types[r.chain] for r in regions if r.chain)
            marks = MARKED_PAIRS if kinds == ["PER", "PER"] else MARKED_PLACES if "LOC" in kinds else MARKED_ORGS
            with Image.open(frame.path) as image:
                x0, x1 = int(left.box.x1 * image.width), int(right.box.x0 * image.width) + 1
                between = image.convert("RGB").crop((x0, 0, max(x1, x0 + 1), image.height))
            seen = Counter({colour: n for n, colour in between.getcolors(between.width * between.height)})
            said = {mark for mark in marks if mark in MARK_COLOURS and seen[MARK_COLOURS[mark]] > 12}
            nothing = {kind for kind in marks if kind not in MARK_COLOURS}
            found[frozenset(r.chain for r in regions if r.chain)] = said or nothing
    return found


def test_two_people_side_by_side_are_often_nothing_to_each_other(corpus: Corpus):
    pairs = []
    for split in SPLITS:
        for example in corpus[split]:
            people = {chain.id for chain in example.gold.chains if chain.type == "PER"}
            pairs += [said for pair, said in together(example).items() if pair <= people]
    assert 0.15 < sum(not said for said in pairs) / len(pairs) < 0.5


@pytest.mark.parametrize(("lang", "patterns"), [("en", ("{} coat", " {} one")), ("zh", ("{}大衣", "是{}的"))])
def test_the_text_tells_the_coat_of_everybody_who_is_seen(corpus: Corpus, lang: str, patterns: tuple[str, ...]):
    for example in examples(corpus, lang):
        types = {chain.id: chain.type for chain in example.gold.chains}
        frames = {frame.index: frame for frame in example.document.frames}
        for region in example.gold.regions:
            if region.chain and types[region.chain] == "PER":
                box = region.box
                with Image.open(frames[region.frame].path) as image:
                    x = (box.x0 + 0.4 * (box.x1 - box.x0)) * image.width
                    y = (box.y0 + 0.45 * (box.y1 - box.y0)) * image.height
                    pixel = image.convert("RGB").getpixel((int(x), int(y)))
                coat = min(COLOURS, key=lambda c: sum(abs(a - b) for a, b in zip(COLOURS[c], pixel, strict=True)))
                colour = coat if lang == "en" else prose_zh.COLOURS[coat]
                assert any(pattern.format(colour) in example.document.text for pattern in patterns), example.document.id
