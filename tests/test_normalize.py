"""What an answer is taken to mean, and the Issue for each thing in it that could not be used."""

from __future__ import annotations

import math

import pytest

from m3dllm.normalize import CODES, normalize
from m3dllm.types import Box, BoxForm, Document, Failure, Frame, Prediction, RawOutput, Relation
from tests.said import EN, codes, issues, one_chain, read, spans
from tests.small import LABELS

# --- nothing in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [{}, {"chains": []}, {"chains": None, "relations": []}, "{}", "```json\n{}\n```"])
def test_an_answer_that_says_nothing_is_here_says_so(payload):
    assert codes(read(payload)) == ["empty_answer"]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_answer_to_an_empty_document_has_its_own_code(text):
    assert codes(read({}, document=Document("d", "zh", text))) == ["empty_document"]


def test_an_empty_answer_to_a_document_with_frames_only_is_an_empty_answer():
    assert codes(read({}, text="")) == ["empty_answer"]


@pytest.mark.parametrize("payload", [None, "", " \n"])
def test_no_payload_is_no_answer(payload):
    assert issues(read(payload)) == [("no_answer", "answer")]


@pytest.mark.parametrize("payload", ["I see nobody.", "[1, 2]", "{a, b} is a set", "{'people': ['Susan']}"])
def test_text_without_an_answer_is_not_json(payload):
    assert issues(read(payload)) == [("not_json", "answer")]


@pytest.mark.parametrize("error", ["server gone", Failure("server gone", retryable=True)])
def test_a_failure_is_an_error_whatever_the_payload(error):
    prediction = read(one_chain("Susan"), error=error)
    assert spans(prediction) == []
    assert [(i.code, i.detail) for i in prediction.issues] == [("error", "server gone")]


@pytest.mark.parametrize("payload", [[], [{"chains": []}], 3, True])
def test_an_answer_that_is_no_object_has_a_bad_shape(payload):
    assert issues(read(payload)) == [("bad_shape", "answer")]


def test_an_object_without_any_list_is_no_empty_answer():
    assert issues(read({"people": ["Susan"]})) == [("bad_shape", "people")]


def test_an_answer_for_another_document_is_a_bug():
    with pytest.raises(ValueError, match="'other', not for 'd'"):
        normalize(Document("d", "en", EN), RawOutput("other"), None)


def test_the_pass_is_kept():
    assert read(one_chain("Susan"), given="mentions").given == "mentions"


# --- chains -----------------------------------------------------------------------------------------------------------


def test_a_span_that_stands_already_is_a_duplicate_and_the_first_keeps_it():
    prediction = read({"chains": [{"id": "a", "type": "P", "mentions": ["Susan"]},
                                  {"id": "b", "type": "P", "mentions": [["Susan", 2], "Bush", "Bush"]}]})  # fmt: skip
    assert [chain.spans for chain in prediction.annotation.chains] == [{(0, 5), (49, 54)}, {(17, 21)}]
    assert issues(prediction) == [
        ("duplicate_mention", "chains[1].mentions[0]"),
        ("duplicate_mention", "chains[1].mentions[2]"),
    ]


def test_of_two_chains_with_one_id_the_first_keeps_the_references():
    said = [("a", "Susan"), ("a", "Bush"), ("b", "George")]
    answer = {
        "chains": [{"id": name, "type": "PER", "mentions": [text]} for name, text in said],
        "relations": [{"head": "b", "tail": "a", "type": "r"}],
    }
    prediction = read(answer)
    first, second, _ = prediction.annotation.chains
    assert (first.id, second.id != "a") == ("a", True)
    assert prediction.annotation.relations[0].tail == "a"
    assert issues(prediction) == [("duplicate_id", "chains[1]")]


@pytest.mark.parametrize(
    ("said", "name"), [(0, "0"), (True, "true"), (1.5, "1.5"), (2.0, "2"), ("", ""), (10**400, None)]
)
def test_an_id_may_be_any_scalar(said, name):
    answer = {
        "chains": [{"id": said, "type": "P", "mentions": ["Susan"]}, {"id": "b", "type": "P", "mentions": ["Bush"]}],
        "relations": [{"head": said, "tail": "b", "type": "r"}],
    }
    prediction = read(answer)
    assert name is None or prediction.annotation.chains[0].id == name
    assert prediction.annotation.relations[0].head == prediction.annotation.chains[0].id
    assert prediction.issues == ()


def test_chains_without_ids_are_named_by_their_place():
    answer = {"chains": [{"type": "P", "mentions": ["Susan"]}, {"id": "c0", "type": "P", "mentions": ["Bush"]}]}
    first, second = read(answer).annotation.chains
    assert second.id == "c0"
    assert first.id != "c0"
    assert read(answer).issues == ()


@pytest.mark.parametrize("mentions", [[], ["Napoleon"], None])
def test_a_chain_without_a_mention_that_could_be_used_is_empty(mentions):
    prediction = read({"chains": [{"id": "c0", "type": "PER", "mentions": mentions}]})
    assert prediction.annotation.chains == ()
    assert issues(prediction)[-1] == ("empty_chain", "chains[0]")


def with_a_third_chain(*texts: str) -> Prediction:
    """An answer with the chains `a` (Susan) and `b` (Bush), and with `c`, which is related to `b`."""
    said = {"a": ["Susan"], "b": ["Bush"], "c": list(texts)}
    chains = [{"id": name, "type": "PER", "mentions": mentions} for name, mentions in said.items()]
    return read({"chains": chains, "relations": [{"head": "c", "tail": "b", "type": "r"}]})


def test_references_to_a_repeated_chain_mean_the_first():
    prediction = with_a_third_chain("Susan", "Napoleon")
    assert [chain.id for chain in prediction.annotation.chains] == ["a", "b"]
    assert prediction.annotation.relations == (Relation("a", "b", "r"),)
    assert issues(prediction)[-1] == ("repeated_chain", "chains[2]")


def test_a_chain_whose_places_two_chains_have_is_neither_of_them():
    prediction = with_a_third_chain("Susan", "Bush")
    assert prediction.annotation.relations == ()
    assert issues(prediction)[-2:] == [("empty_chain", "chains[2]"), ("dangling", "relations[0].head")]


@pytest.mark.parametrize("chain", [3, "Susan", ["Susan"], None])
def test_a_chain_that_is_no_object_has_a_bad_shape(chain):
    assert issues(read({"chains": [chain]})) == [("bad_shape", "chains[0]")]


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        ({"chains": {"c0": ["Susan"]}}, "chains"),
        ({"chains": [], "relations": "none"}, "relations"),
        ({"chains": [{"type": "PER", "mentions": "Susan"}]}, "chains[0].mentions"),
        ({"chains": [{"type": "PER", "mentions": ["Susan"], "name": "Susan"}]}, "chains[0].name"),
        ({"chains": [], "summary": "A talk."}, "summary"),
        ({"chains": [], "regions": [{"frame": 24, "type": "P", "box": [0, 0, 1, 1], "score": 1}]}, "regions[0].score"),
        ({"chains": [], "relations": [["a", "b"]]}, "relations[0]"),
    ],
)
def test_what_has_another_shape_is_named_by_its_place(answer, where):
    assert ("bad_shape", where) in issues(read(answer))


# --- types ------------------------------------------------------------------------------------------------------------


def test_a_type_left_out_is_the_chains():
    prediction = read({"chains": [{"type": "PER", "mentions": ["Susan", {"start": 25, "end": 33, "type": "LOC"}]}]})
    assert {m.span: m.type for m in prediction.annotation.mentions} == {(0, 5): "PER", (49, 54): "PER", (25, 33): "LOC"}


def test_a_chain_without_a_type_has_its_mentions():
    prediction = read({"chains": [{"mentions": [{"start": 17, "end": 21, "type": "PER"}, "Susan"]}]})
    assert {m.type for m in prediction.annotation.mentions} == {"PER"}
    assert prediction.issues == ()


@pytest.mark.parametrize("labels", [None, LABELS])
def test_without_any_type_a_chain_cannot_be_used(labels):
    prediction = read({"chains": [{"mentions": ["Susan"]}]}, labels=labels)
    assert issues(prediction) == [("unknown_type", "chains[0].type"), ("empty_chain", "chains[0]")]


def test_a_type_that_the_labels_lack_is_unknown():
    answer = {
        "chains": [{"id": "a", "type": "PER", "mentions": ["Susan", {"text": "Bush", "type": "per"}]},
                   {"id": "b", "type": "TIME", "mentions": ["George"]}],
        "relations": [{"head": "a", "tail": "a", "type": "friend"}],
        "regions": [{"frame": 24, "type": "LOC", "box": [0, 0, 1, 1]}],
    }  # fmt: skip
    prediction = read(answer, labels=LABELS)
    assert spans(prediction) == [(0, 5), (49, 54)]
    assert issues(prediction) == [
        ("unknown_type", "chains[0].mentions[1].type"),
        ("unknown_type", "chains[1].type"),
        ("empty_chain", "chains[1]"),
        ("unknown_type", "relations[0].type"),
        ("unknown_type", "regions[0].type"),
    ]


def test_without_labels_every_type_is_allowed():
    assert read({"chains": [{"type": "怪物", "mentions": ["Susan"]}]}).issues == ()


# --- relations --------------------------------------------------------------------------------------------------------


def related(*relations: object) -> Prediction:
    """An answer with the chains `a` (Susan), `b` (Bush) and `x`, which is invented."""
    names = {"a": "Susan", "b": "Bush", "x": "Napoleon"}
    chains = [{"id": key, "type": "PER", "mentions": [name]} for key, name in names.items()]
    return read({"chains": chains, "relations": list(relations)}, labels=LABELS)


COUPLE = "PER-PER_couple"


def test_relations_join_chains_by_id():
    (relation,) = related({"head": "b", "tail": "a", "type": COUPLE}).annotation.relations
    assert (relation.head, relation.tail, relation.type) == ("b", "a", COUPLE)


@pytest.mark.parametrize("name", ["c", "x", "Susan", None, ["a"], {"id": "a"}, 10**40])
def test_a_relation_to_no_chain_dangles(name):
    prediction = related({"head": "a", "tail": name, "type": COUPLE})
    assert prediction.annotation.relations == ()
    assert issues(prediction)[2:] == [("dangling", "relations[0].tail")]


def test_a_relation_of_a_chain_to_itself_is_left_out():
    prediction = related({"head": "a", "tail": "a", "type": COUPLE})
    assert prediction.annotation.relations == ()
    assert issues(prediction)[2:] == [("self_relation", "relations[0]")]


def test_identical_relations_collapse_and_turned_ones_do_not():
    forth, back = {"head": "a", "tail": "b", "type": COUPLE}, {"head": "b", "tail": "a", "type": COUPLE}
    prediction = related(forth, forth, back)
    assert len(prediction.annotation.relations) == 2
    assert issues(prediction)[2:] == [("duplicate_relation", "relations[1]")]


def test_a_relation_between_the_wrong_types_is_the_scorers_affair():
    prediction = related({"head": "a", "tail": "b", "type": "PER-LOC_birth"})
    assert len(prediction.annotation.relations) == 1
    assert issues(prediction)[2:] == []


# --- regions ----------------------------------------------------------------------------------------------------------


def seen(box: object, *, frame: object = 345, boxes: BoxForm | None = None, **more) -> Prediction:
    return read({"regions": [{"frame": frame, "type": "PER", "box": box, **more}]}, boxes=boxes)


def test_boxes_are_fractions_where_nothing_else_is_declared():
    (region,) = seen([0.1, 0.2, 0.4, 0.9]).annotation.regions
    assert (region.frame, region.box, region.type, region.chain) == (345, Box(0.1, 0.2, 0.4, 0.9), "PER", None)


@pytest.mark.parametrize(
    ("order", "numbers"),
    [
        ("xyxy", [250, 500, 750, 750]),
        ("yxyx", [500, 250, 750, 750]),
        ("xywh", [250, 500, 500, 250]),
        ("cxcywh", [500, 625, 500, 250]),
    ],
)
def test_every_order_of_the_numbers_is_brought_into_one(order, numbers):
    (region,) = seen(numbers, boxes=BoxForm(order, {345: (1000, 1000)})).annotation.regions
    assert region.box == Box(0.25, 0.5, 0.75, 0.75)


def test_the_offset_is_subtracted_before_dividing_by_the_size():
    form = BoxForm("xyxy", {345: (64, 32)}, {345: (0, 16)})
    (region,) = seen([16, 24, 32, 48], boxes=form).annotation.regions
    assert region.box == Box(0.25, 0.25, 0.5, 1.0)


def test_a_width_is_not_shifted_by_the_offset():
    form = BoxForm("xywh", {345: (64, 32)}, {345: (8, 16)})
    (region,) = seen([8, 16, 64, 32], boxes=form).annotation.regions
    assert region.box == Box(0, 0, 1, 1)


def test_a_box_of_a_frame_whose_size_is_not_known_is_left_out():
    prediction = seen([0, 0, 500, 500], boxes=BoxForm("xyxy", {24: (1000, 1000)}))
    assert prediction.annotation.regions == ()
    assert issues(prediction) == [("no_box_size", "regions[0].box")]


@pytest.mark.parametrize("frame", [1, -24, None, "first", 10**30, 345.5, True, [345]])
def test_a_region_in_no_frame_of_the_document_is_left_out(frame):
    prediction = seen([0, 0, 1, 1], frame=frame)
    assert prediction.annotation.regions == ()
    assert issues(prediction) == [("unknown_frame", "regions[0].frame")]


@pytest.mark.parametrize(
    "box", [[0, 0, 1], [0, 0, 1, 1, 1], "0 0 1 1", None, [0, 0, 1, "a"], [0, 0, 1, True], {"x": 1}]
)
def test_a_box_that_is_not_four_numbers_is_left_out(box):
    prediction = seen(box)
    assert prediction.annotation.regions == ()
    assert issues(prediction) == [("bad_box", "regions[0].box")]


@pytest.mark.parametrize("box", [[0.5, 0, 0.5, 1], [0.5, 0, 0.25, 1], [0, 0, math.inf, 1], [0, 0, 1, 10**400]])
def test_a_box_without_an_area_is_kept_as_it_was_said(box):
    prediction = seen(box)
    assert prediction.annotation.regions[0].box == tuple(math.inf if number > 9 else number for number in box)
    assert issues(prediction) == [("bad_geometry", "regions[0].box")]


def test_null_in_a_box_is_a_number_that_is_not_finite():
    prediction = seen([0, 0, None, 1])
    assert math.isnan(prediction.annotation.regions[0].box.x1)
    assert codes(prediction) == ["bad_geometry"]


def test_a_box_outside_the_frame_is_kept_as_it_was_said():
    prediction = seen([-0.5, 0, 1, 1])
    assert prediction.annotation.regions[0].box == Box(-0.5, 0, 1, 1)
    assert issues(prediction) == [("box_outside", "regions[0].box")]


def test_frames_and_boxes_written_as_text_are_read():
    prediction = seen(["0", ".5", "1e0", 1], frame="345")
    assert prediction.annotation.regions[0].box == Box(0, 0.5, 1, 1)
    assert issues(prediction) == [("repaired", "regions[0].frame"), ("repaired", "regions[0].box")]


def test_a_region_of_no_chain_keeps_its_box():
    prediction = seen([0, 0, 1, 1], chain="c9")
    assert prediction.annotation.regions[0].chain is None
    assert issues(prediction) == [("dangling", "regions[0].chain")]


def holding(*relations: object, **region: object) -> Prediction:
    """Susan (c0) and a box with the id r0, or with what else is said of it, and relations."""
    cup = {"id": "r0", "frame": 24, "type": "PER", "box": [0, 0, 1, 1]} | region
    return read(one_chain("Susan") | {"relations": list(relations), "regions": [cup]})


@pytest.mark.parametrize(("head", "tail"), [("c0", "r0"), ("r0", "c0")])
def test_a_relation_may_name_a_region(head, tail):
    prediction = holding({"head": head, "tail": tail, "type": COUPLE})
    assert prediction.annotation.relations == (Relation(head, tail, COUPLE),)
    assert [region.id for region in prediction.annotation.regions] == ["r0"]
    assert issues(prediction) == []


def test_a_region_may_have_any_scalar_as_its_id():
    prediction = holding({"head": "c0", "tail": 7, "type": COUPLE}, id=7)
    assert prediction.annotation.relations == (Relation("c0", "7", COUPLE),)


@pytest.mark.parametrize("broken", [{"frame": 7}, {"box": [1, 2]}, {"type": None}])
def test_a_region_that_cannot_be_used_takes_its_relations_along(broken):
    prediction = holding({"head": "c0", "tail": "r0", "type": COUPLE}, **broken)
    assert (prediction.annotation.relations, prediction.annotation.regions) == ((), ())
    assert issues(prediction)[0] == ("dangling", "relations[0].tail")
    assert prediction.issues[0].detail == "refers to region 'r0', which could not be used"


def test_a_box_that_is_kept_though_it_is_wrong_keeps_its_relations():
    prediction = holding({"head": "c0", "tail": "r0", "type": COUPLE}, box=[0, 0, 2, 2])
    assert prediction.annotation.relations == (Relation("c0", "r0", COUPLE),)


def test_a_relation_of_a_region_to_itself_is_left_out():
    assert issues(holding({"head": "r0", "tail": "r0", "type": COUPLE})) == [("self_relation", "relations[0]")]


def test_a_region_with_the_id_of_a_chain_has_none():
    prediction = holding({"head": "c0", "tail": "r0", "type": COUPLE}, id="c0")
    assert [region.id for region in prediction.annotation.regions] == [None]
    assert issues(prediction) == [("dangling", "relations[0].tail"), ("duplicate_id", "regions[0]")]


def test_a_chain_without_an_id_gets_none_of_a_region():
    chains = [{"type": "PER", "mentions": ["Susan"]}]
    region = {"id": "c0", "frame": 24, "type": "PER", "box": [0, 0, 1, 1]}
    annotation = read({"chains": chains, "relations": [], "regions": [region]}).annotation
    assert [region.id for region in annotation.regions] == ["c0"]
    assert annotation.chains[0].id != "c0"


@pytest.mark.parametrize("name", [["r0"], {"id": "r0"}, math.nan])
def test_an_id_of_a_region_that_is_no_name_has_a_bad_shape(name):
    prediction = holding(id=name)
    assert [region.id for region in prediction.annotation.regions] == [None]
    assert issues(prediction) == [("bad_shape", "regions[0].id")]


def test_a_region_without_a_type_has_its_chains():
    answer = one_chain("Susan") | {"regions": [{"frame": 24, "box": [0, 0, 1, 1], "chain": "c0"}]}
    (region,) = read(answer).annotation.regions
    assert (region.type, region.chain) == ("PER", "c0")


# --- issues -----------------------------------------------------------------------------------------------------------


def test_a_detail_is_short_and_can_be_written():
    prediction = read(one_chain("x" * 100_000, "\ud800"))
    assert [i.code for i in prediction.issues] == ["text_not_found", "text_not_found", "empty_chain"]
    for issue in prediction.issues:
        assert len(issue.detail.encode()) < 200


def test_every_code_is_explained():
    assert all(CODES[code] for code in CODES)
    assert {"text_not_found", "unaligned", "unknown_type", "dangling", "box_outside", "truncated", "not_json"} <= set(
        CODES
    )


def test_confidences_are_kept_with_each_part():
    chains = [
        {"id": "c0", "type": "PER", "mentions": [{"text": "Ada", "confidence": 0.9, "link": 0.1}]},
        {"id": "c1", "mentions": [{"start": 16, "end": 21, "type": "LOC", "confidence": 1}]},
    ]
    relations = [{"head": "c0", "tail": "c1", "type": "PER-LOC_birth", "confidence": 0.5}]
    document = Document("d", "en", "Ada was born in Arles . Ada died .", frames=(Frame(0, "0.png", 64, 48),))
    regions = [{"frame": 0, "box": [0, 0, 1, 1], "type": "PER", "confidence": 0.25}]
    payload = {"chains": chains, "relations": relations, "regions": regions}
    found = normalize(document, RawOutput("d", payload=payload))
    mentions = [(m.confidence, m.link) for m in found.annotation.mentions]
    assert mentions == [(0.9, None), (0.9, 0.1), (1, None)]
    assert [part.confidence for part in (*found.annotation.relations, *found.annotation.regions)] == [0.5, 0.25]
    assert found.issues == ()


@pytest.mark.parametrize("sure", [1.5, -1, True, "high", [0.5], float("nan")])
def test_a_confidence_that_is_none_is_left_out_and_named(sure):
    mention = {"start": 0, "end": 3, "type": "PER", "confidence": sure}
    found = normalize(Document("d", "en", "Ada ."), RawOutput("d", payload={"chains": [{"mentions": [mention]}]}))
    assert [m.confidence for m in found.annotation.mentions] == [None]
    assert [(issue.code, issue.where) for issue in found.issues] == [
        ("bad_confidence", "chains[0].mentions[0].confidence")
    ]
