"""What the page knows of a document: sides, verdicts and numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from m3dllm.scored import read_run
from m3dllm.types import TASKS, Annotation, Chain, Mention
from m3dllm.viewer.content import Content, cases, document_content, judge, tally
from m3dllm.viewer.entities import Entities
from m3dllm.viewer.players import Players
from m3dllm.viewer.thumbnails import Thumbnails
from tests.viewer.documents import EN, english

NO_VIDEOS = Players(Path(), "none")


@pytest.fixture(scope="module")
def contents(runs) -> dict[str, Content]:
    found = [read_run(run.path) for run in runs]
    return {case.document.id: document_content(case, Thumbnails(None), NO_VIDEOS, gold=True) for case in cases(found)}


@pytest.fixture
def wrong(contents) -> Content:
    """What `wrong` said of en-1."""
    return next(side for side in contents["en-1"]["sides"] if side["run"] == 1)


def test_a_document_has_the_gold_and_every_pass_of_every_run(contents):
    sides = [(side["run"], side["given"]) for side in contents["en-1"]["sides"]]
    assert sides == [(None, None), (0, None), (1, None), (0, "mentions"), (0, "chains")]


def test_mentions_bear_the_verdict_of_the_scorer(wrong):
    said = {(EN[m["start"] : m["end"]], m["type"]): m["verdict"] for m in wrong["mentions"]}
    assert said == {
        ("Ada King", "PER"): "hit",
        ("Bela", "LOC"): "type",
        ("Arles", "LOC"): "hit",
        ("King", "PER"): "spurious",
    }
    assert [(EN[m["start"] : m["end"]], m["type"]) for m in wrong["missed"]["mentions"]] == [
        ("Ada", "PER"),
        ("Bela", "PER"),
    ]


def test_chains_are_right_incomplete_or_spurious(wrong):
    assert [chain["verdict"] for chain in wrong["chains"]] == ["part", "hit", "hit", "spurious"]


def test_a_chain_with_mentions_of_several_gold_chains_is_over_merged():
    gold = Annotation((Chain("a", (Mention(0, 3, "PER"), Mention(4, 7, "PER"))), Chain("b", (Mention(8, 9, "PER"),))))
    pred = Annotation(
        (
            Chain("x", (Mention(0, 3, "PER"), Mention(8, 9, "PER"))),
            Chain("y", (Mention(4, 7, "PER"), Mention(10, 12, "PER"))),
        )
    )
    judged = judge(gold, pred, ["chain"])
    assert [judged.chain(0), judged.chain(1)] == ["merged", "spurious"]
    assert tally(gold, pred, judged) == {"chain": {"PER": {"merged": 1, "missed": 2, "spurious": 1}}}


def test_a_relation_that_hits_stands_in_the_row_of_its_gold(wrong):
    assert [(r["verdict"], r["row"]) for r in wrong["relations"]] == [("type", None), ("hit", "g0"), ("spurious", None)]
    assert [r["row"] for r in wrong["missed"]["relations"]] == ["g1"]


def test_regions_bear_their_verdict(wrong):
    assert [region["verdict"] for region in wrong["regions"]] == ["hit", "spurious"]
    assert [region["frame"] for region in wrong["missed"]["regions"]] == [24]


def test_one_number_is_one_entity_on_every_side(contents, wrong):
    names = {entity["number"]: entity["name"] for entity in contents["en-1"]["entities"]}
    assert names == {1: "Ada King", 2: "Bela", 3: "Arles", 4: "King"}
    assert [chain["entity"] for chain in wrong["chains"]] == [1, 2, 3, 4]


def test_a_pass_with_gold_given_is_judged_by_what_is_left_to_say(contents):
    scored = {side["given"]: side["scored"] for side in contents["en-1"]["sides"] if side["run"] == 0}
    assert scored == {None: sorted(TASKS), "mentions": ["chain"], "chains": ["relation"]}


def test_a_task_whose_modality_is_not_there_is_not_judged(contents):
    of = {name: contents[name]["sides"][1]["scored"] for name in ("no-text", "no-frames", "nothing")}
    assert of == {"no-text": ["grounding"], "no-frames": ["chain", "entity", "relation"], "nothing": []}


def test_the_tallies_of_all_documents_are_the_counts_of_the_scores(runs, contents):
    for number, run in enumerate(runs):
        tasks = run.scores()["languages"]["en"]["end_to_end"]["tasks"]
        sides = [s for c in contents.values() if c["lang"] == "en" for s in c["sides"] if s["run"] == number]
        tallies = [side["tally"] for side in sides if side["given"] is None]
        for task in ("entity", "relation", "grounding"):
            words = [counts for tally in tallies for counts in tally.get(task, {}).values()]
            hits, missed = (sum(counts.get(word, 0) for counts in words) for word in ("hit", "missed"))
            said = hits + sum(counts.get(word, 0) for counts in words for word in ("type", "spurious"))
            score = tasks[task]
            assert (hits, said, hits + missed) == (score["p_num"], score["p_den"], score["r_den"]), task


def test_without_gold_nothing_is_judged(runs):
    case = next(case for case in cases([read_run(runs[1].path)]) if case.document.id == "en-1")
    (side,) = document_content(case, Thumbnails(None), NO_VIDEOS, gold=False)["sides"]
    assert side["run"] == 0
    assert {part["verdict"] for name in ("mentions", "chains", "relations", "regions") for part in side[name]} == {None}
    assert side["tally"] == {}
    assert not any(side["missed"].values())


def test_documents_of_one_id_that_differ_stand_apart(runs):
    one, two = (read_run(run.path) for run in runs)
    other = replace(two, examples=(replace(english(), gold=Annotation()), *two.examples[1:]))
    found = list(cases([one, other]))
    assert [case.document.id for case in found].count("en-1") == 2
    assert [case.document.id for case in found].count("zh-1") == 1


# --- numbers ---


def chain(name: str, *spans: tuple[int, int]) -> Chain:
    return Chain(name, tuple(Mention(*span, "PER") for span in spans))


def test_a_chain_takes_the_entity_with_which_it_shares_most():
    entities = Entities("abcdef")
    entities.add(Annotation((chain("g1", (0, 1), (1, 2)), chain("g2", (2, 3)))))
    assert entities.add(Annotation((chain("p1", (0, 1), (2, 3)), chain("p2", (1, 2))))) == {"p1": 1, "p2": 3}


def test_entities_are_numbered_as_they_stand_in_the_text():
    assert Entities("abc").add(Annotation((chain("late", (2, 3)), chain("early", (0, 1))))) == {"early": 1, "late": 2}


def test_an_entity_is_called_by_its_most_frequent_mention():
    entities = Entities("Ada and Ada, the woman of Arles")
    entities.add(Annotation((chain("c", (0, 3), (8, 11), (13, 31)),)))
    assert [entity["name"] for entity in entities.content()] == ["Ada"]


# --- frames ---


def test_a_frame_that_is_gone_or_changed_says_so(runs):
    example = english()
    root = Path(runs[0].record().corpus.root)
    there, gone = example.document.frames[0], replace(example.document.frames[1], path="frames/none.png")
    changed, out = replace(there, sha256="0" * 64), replace(there, path="../secret.png")
    found = Thumbnails(None).of([there, gone, changed, out], [root])
    assert found[0]["src"].startswith("data:image/jpeg;base64,")
    assert [picture.get("gone") for picture in found[1:]] == [
        "the file is missing",
        "the file has changed since the run",
        "its path leads out of the corpus",
    ]


def test_a_file_that_is_no_image_says_so(tmp_path):
    frame = english().document.frames[0]
    file = tmp_path / frame.path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"<script>")
    assert Thumbnails(None).of([frame], [tmp_path]) == [{"gone": "the file is not a readable image"}]


def test_frames_of_one_picture_make_one_thumbnail_however_many_work_at_once(runs, tmp_path):
    frames = [english().document.frames[0]] * 200
    found = Thumbnails(tmp_path).of(frames, [Path(runs[0].record().corpus.root)])
    assert len({picture["src"] for picture in found}) == 1
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1
