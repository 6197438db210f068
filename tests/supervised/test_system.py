from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet
from m3dllm.normalize import normalize
from m3dllm.system import System
from m3dllm.systems.dffm import Config
from m3dllm.systems.dffm.model import DFFM
from m3dllm.systems.supervised.checkpoint import MODEL, read_checkpoint
from m3dllm.types import Annotation, Chain, Document, Example, Frame, Given
from m3dllm.weights import write_weights
from tests.small import annotated
from tests.supervised.documents import ENGLISH, LABELS, four

NONE = dict.fromkeys(("dropout", "word_dropout", "name_dropout", "hide"), 0.0)
CONFIG = Config(hidden=64, image_size=64, lr=2e-3, epochs=24, batch_size=4, **NONE)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """(folder of the checkpoint, the documents, the system that was fitted on them)."""
    folder = tmp_path_factory.mktemp("fitted")
    examples = four(folder)
    system = DFFM(CONFIG, labels=LABELS)
    system.fit(examples, examples, folder / "checkpoint")
    return folder / "checkpoint", examples, system


def answer(system, *documents):
    return list(system.predict(iter(documents)))


def test_it_is_a_system_that_learns(fitted):
    assert isinstance(fitted[2], System)


def test_a_checkpoint_answers_as_the_system_that_wrote_it(fitted):
    checkpoint, examples, system = fitted
    documents = [example.document for example in examples]
    again = DFFM(CONFIG, labels=LABELS, checkpoint=checkpoint)
    assert [raw.payload for raw in answer(again, *documents)] == [raw.payload for raw in answer(system, *documents)]
    assert again.provenance["text_encoder"] == "tiny"


def test_what_only_answers_depend_on_is_as_it_is_given_with_the_checkpoint(fitted):
    given = replace(CONFIG, merge_iou=0.9, linkage="single", frame_chunk=1, precision="bf16", lr=1.0)
    card, model = DFFM(given, labels=LABELS, checkpoint=fitted[0])._fitted
    assert card.config == replace(given, lr=CONFIG.lr)
    assert (model.grounding.merge_iou, model.chain.linkage, model.backbone.vision.chunk) == (0.9, "single", 1)


def test_answers_come_in_order_one_a_document_and_are_in_order(fitted):
    _, examples, system = fitted
    documents = [example.document for example in examples] * 3
    found = answer(system, *documents)
    assert [raw.document for raw in found] == [document.id for document in documents]
    for raw, document in zip(found, documents, strict=True):
        codes = {issue.code for issue in normalize(document, raw, LABELS).issues}
        assert codes <= {"empty_answer", "empty_document"}


def test_a_document_of_nothing_is_answered_with_nothing(fitted):
    (raw,) = answer(fitted[2], Document("empty", "en", ""))
    assert raw.payload == {"chains": [], "relations": [], "regions": []}


def test_white_space_is_no_text(fitted):
    (raw,) = answer(fitted[2], Document("white", "zh", " \n\t "))
    assert raw.payload["chains"] == []


def test_every_part_that_is_predicted_has_a_confidence(fitted):
    _, examples, system = fitted
    payloads = [raw.payload for raw in answer(system, *(example.document for example in examples))]
    chains = [chain["mentions"] for payload in payloads for chain in payload["chains"]]
    parts = [m for mentions in chains for m in mentions]
    parts += [part for payload in payloads for part in (*payload["relations"], *payload["regions"])]
    assert parts
    assert all(0 <= part["confidence"] <= 1 for part in parts)
    assert all("link" not in first and all("link" in m for m in rest) for first, *rest in chains)


# --- given ------------------------------------------------------------------------------------------------------------


def test_given_mentions_are_chained_and_nothing_else_is_said(fitted):
    _, chains = annotated(ENGLISH)
    alone = [Chain(f"m{i}", (m,)) for i, m in enumerate(m for chain in chains for m in chain.mentions)]
    document = replace(fitted[1][0].document, given=Given(tuple(alone), kind="mentions"))
    (raw,) = answer(fitted[2], document)
    spans = sorted((m["start"], m["end"]) for chain in raw.payload["chains"] for m in chain["mentions"])
    assert spans == sorted(m.span for chain in chains for m in chain.mentions)
    assert not any("confidence" in m for chain in raw.payload["chains"] for m in chain["mentions"])
    assert (raw.payload["relations"], raw.payload["regions"]) == ([], [])


def test_given_chains_are_related_under_their_own_names(fitted):
    _, chains = annotated(ENGLISH)
    named = tuple(replace(chain, id=f"gold-{chain.id}") for chain in reversed(chains))
    document = replace(fitted[1][0].document, given=Given(named, kind="chains"))
    (raw,) = answer(fitted[2], document)
    assert [chain["id"] for chain in raw.payload["chains"]] == [chain.id for chain in named]
    assert raw.payload["relations"]
    assert {r[side] for r in raw.payload["relations"] for side in ("head", "tail")} <= {chain.id for chain in named}
    assert raw.payload["regions"] == []


def test_nothing_given_is_nothing_said(fitted):
    document = replace(fitted[1][0].document, given=Given((), kind="mentions"))
    assert answer(fitted[2], document)[0].payload == {"chains": [], "relations": [], "regions": []}


def test_given_and_not_given_may_stand_together(fitted):
    _, examples, system = fitted
    _, chains = annotated(ENGLISH)
    plain = examples[0].document
    given = replace(plain, given=Given(chains, kind="chains"))
    together = answer(system, plain, given, examples[1].document)
    alone = [answer(system, document)[0] for document in (plain, given, examples[1].document)]
    assert [raw.payload["chains"] for raw in together] == [raw.payload["chains"] for raw in alone]
    assert [raw.payload["relations"] for raw in together] == [raw.payload["relations"] for raw in alone]


# --- what was not learned ---------------------------------------------------------------------------------------------


def with_mentions_alone(example, *, annotated=True):
    """The example with its mentions as gold, or nothing at all, and frames that nobody annotated."""
    frames = tuple(replace(frame, annotated=False) for frame in example.document.frames)
    chains = tuple(Chain(f"m{i}", (mention,)) for i, mention in enumerate(sorted(example.gold.mentions)))
    unknown = frozenset(("chain", "relation") if annotated else ("entity", "grounding"))
    document = replace(example.document, frames=frames)
    return Example(document, Annotation(chains if annotated else ()), unknown)


def test_what_train_has_no_gold_of_is_not_answered_and_has_no_score(tmp_path):
    examples = [with_mentions_alone(example) for example in four(tmp_path)]
    system = DFFM(replace(CONFIG, epochs=20), labels=LABELS)
    system.fit(examples, examples, tmp_path / "out")
    again = DFFM(CONFIG, labels=LABELS, checkpoint=tmp_path / "out")
    assert system.unsupported == again.unsupported == {"chain", "relation", "grounding"}
    (raw,) = answer(again, examples[0].document)
    assert raw.payload["chains"]
    assert all(len(chain["mentions"]) == 1 for chain in raw.payload["chains"])
    assert (raw.payload["relations"], raw.payload["regions"]) == ([], [])


def test_everything_learned_is_everything_answered(fitted):
    assert fitted[2].unsupported == frozenset()


def test_gold_of_nothing_is_refused(tmp_path):
    examples = [with_mentions_alone(example, annotated=False) for example in four(tmp_path)]
    with pytest.raises(UserError, match="no train document has gold to learn from"):
        DFFM(CONFIG, labels=LABELS).fit(examples, (), tmp_path / "out")


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_broken_frame_is_the_error_of_its_document_only(fitted, tmp_path):
    _, examples, system = fitted
    (tmp_path / "b.png").write_bytes(b"torn")
    broken = Document("broken", "en", "Ada came .", frames=(Frame(0, str(tmp_path / "b.png"), 4, 4),))
    found = answer(system, examples[0].document, broken, examples[1].document)
    assert "b.png: cannot be read as a picture" in found[1].failure.message
    assert (found[0].failure, found[2].failure) == (None, None)


def test_another_language_is_an_error_of_the_document(tmp_path):
    system = DFFM(replace(CONFIG, epochs=1), labels=LABELS)
    system.fit([example for example in four(tmp_path) if example.document.lang == "en"], (), tmp_path / "out")
    (raw,) = answer(system, Document("d", "zh", "苏珊来了"))
    assert raw.failure.message == "the document is in 'zh', and the model was fitted on en"


def test_a_given_type_that_is_unknown_is_an_error_of_the_document(fitted):
    _, chains = annotated("[TIME0 Ada]")
    (raw,) = answer(fitted[2], Document("d", "en", "Ada", given=Given(chains, kind="mentions")))
    assert "'TIME' is not in the label set" in raw.failure.message


def test_a_model_that_is_not_fitted_says_so():
    with pytest.raises(UserError, match="not trained"):
        answer(DFFM(CONFIG, labels=LABELS), Document("d", "en", "x"))


def test_a_checkpoint_of_another_label_set_is_refused(fitted):
    other = LabelSet(mentions=(Label("PER"),))
    with pytest.raises(UserError, match="was fitted for another label set"):
        DFFM(CONFIG, labels=other, checkpoint=fitted[0])


def test_a_checkpoint_of_other_options_is_refused_by_their_name(fitted):
    with pytest.raises(
        UserError, match=r"was fitted with --text-encoder tiny: give the options or the preset of its fit"
    ):
        DFFM(Config(**Config.presets["minilm"]), labels=LABELS, checkpoint=fitted[0])


def test_options_of_training_may_differ(fitted):
    DFFM(replace(CONFIG, lr=1.0, batch_size=1), labels=LABELS, checkpoint=fitted[0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "has no model.safetensors"),
        (b"", "is damaged or truncated"),
        (b"\x00" * 100, "is damaged or truncated"),
        (pickle.dumps({"weights": [1.0]}), "is a pickle, which is never loaded"),
        ("half", "is damaged or truncated"),
    ],
    ids=["missing", "empty", "zeros", "pickle", "truncated"],
)
def test_weights_that_cannot_be_read_are_refused(fitted, tmp_path, content, told):
    if content == "half":
        whole = (fitted[0] / MODEL).read_bytes()
        content = whole[: len(whole) // 2]
    if content is not None:
        (tmp_path / MODEL).write_bytes(content)
    with pytest.raises(UserError) as error:
        DFFM(CONFIG, labels=LABELS, checkpoint=tmp_path)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_pickled_weights_beside_are_named(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle, which is never loaded"):
        DFFM(CONFIG, labels=LABELS, checkpoint=tmp_path)


def test_safetensors_of_something_else_are_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / MODEL)
    with pytest.raises(UserError, match="is not a model of this system"):
        DFFM(CONFIG, labels=LABELS, checkpoint=tmp_path)


def test_a_checkpoint_of_an_older_version_is_refused(fitted, tmp_path):
    header, weights = read_checkpoint(fitted[0] / MODEL)
    card = json.loads(header["m3dllm"])
    del card["names"]
    write_weights(tmp_path / MODEL, weights, {"m3dllm": json.dumps(card)})
    with pytest.raises(UserError, match="was fitted by an older version, whose weights have other names: fit again"):
        DFFM(CONFIG, labels=LABELS, checkpoint=tmp_path)


def test_regions_are_not_answered_where_nobody_looked_for_them_in_train(tmp_path):
    examples = four(tmp_path)[:2]
    blind = [
        replace(
            example,
            document=replace(
                example.document, frames=tuple(replace(frame, annotated=False) for frame in example.document.frames)
            ),
        )
        for example in examples
    ]
    system = DFFM(replace(CONFIG, epochs=1), labels=LABELS)
    system.fit(blind, (), tmp_path / "out")
    assert [raw.payload["regions"] for raw in answer(system, *(example.document for example in examples))] == [[], []]
