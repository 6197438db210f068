"""What is hidden from every system alike."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.corpora.missing import KINDS, Manifest, encode_manifest, make_manifest, manifest_of, read_manifest, show
from m3dllm.errors import UserError
from m3dllm.types import Chain, Document, Frame, Given, Mention, Segment
from tests.small import example
from tests.strategies import documents

IDS = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=12)
FULL = Document(
    "a",
    "zh",
    "苏珊在北京",
    title="t",
    tokens=((0, 2), (2, 3)),
    segments=(Segment(0, 5, 0, 1),),
    frames=(Frame(24, "frames/24.png", 64, 48, True),),
    given=Given((Chain("c", (Mention(0, 2, "PER"),)),), kind="chains"),
)


def thirds(ids: list[str], seed: int) -> dict[str, str]:
    """The plain twin of the rule: sort by hash, cut in thirds, the remainder to full."""
    order = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    n = len(order) // 3
    rest = len(order) - 3 * n
    return {
        name: "full" if i < n + rest else "no_text" if i < 2 * n + rest else "no_video" for i, name in enumerate(order)
    }


@given(ids=IDS, seed=st.integers(0, 99))
def test_thirds_are_cut_from_the_order_of_hashes(ids, seed):
    assert make_manifest(ids, kind="thirds", seed=seed).documents == thirds(ids, seed)


@given(ids=IDS, data=st.data(), kind=st.sampled_from(KINDS))
def test_the_order_of_the_documents_changes_nothing(ids, data, kind):
    assert make_manifest(ids, kind=kind, seed=1) == make_manifest(data.draw(st.permutations(ids)), kind=kind, seed=1)


def test_the_one_or_two_left_over_are_full():
    for n, full in ((9, 3), (10, 4), (11, 5), (2, 2), (0, 0)):
        counts = Counter(make_manifest(map(str, range(n)), kind="thirds").documents.values())
        assert counts == Counter(full=full, no_text=n // 3, no_video=n // 3)


def test_the_thirds_of_a_seed_are_the_same_for_ever():
    shown = make_manifest(["a", "b", "c", "苏珊"], kind="thirds", seed=7).documents
    assert shown == {"a": "no_text", "b": "no_video", "c": "full", "苏珊": "full"}


def test_another_seed_hides_from_others():
    ids = [str(i) for i in range(30)]
    assert make_manifest(ids, kind="thirds", seed=0).documents != make_manifest(ids, kind="thirds", seed=1).documents


def test_each_split_is_divided_by_itself():
    train, dev = ([example(f"{split}{i}", "") for i in range(3)] for split in ("train", "dev"))
    whole = manifest_of([train, dev], kind="thirds", seed=1)
    parts = [make_manifest([e.document.id for e in part], kind="thirds", seed=1) for part in (train, dev)]
    assert whole == Manifest("thirds", 1, {**parts[0].documents, **parts[1].documents})
    assert Counter(whole.documents.values()) == Counter(full=2, no_text=2, no_video=2)


def test_a_kind_hides_one_modality_of_every_document():
    assert make_manifest("ab", kind="text").documents == {"a": "no_text", "b": "no_text"}
    assert make_manifest("ab", kind="video").documents == {"a": "no_video", "b": "no_video"}
    assert make_manifest("ab", kind="none").documents == {"a": "full", "b": "full"}


def test_without_text_nothing_that_refers_to_it_is_left():
    assert show(FULL, "no_text") == Document("a", "zh", "", title="t", frames=FULL.frames)


def test_without_video_only_the_frames_are_gone():
    assert show(FULL, "no_video") == replace(FULL, frames=())


@given(documents())
def test_a_document_shown_in_full_is_itself(document):
    assert show(document, "full") is document


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    manifest = make_manifest(["a", "b", "c", "苏珊"], kind="thirds", seed=3)
    (tmp_path / "m.json").write_text(encode_manifest(manifest), encoding="utf-8")
    assert read_manifest(tmp_path / "m.json") == manifest


def test_the_form_of_a_manifest():
    assert json.loads(encode_manifest(Manifest("text", 5, {"a": "no_text"}))) == {
        "format": 1,
        "kind": "text",
        "seed": 5,
        "documents": {"a": "no_text"},
    }


BROKEN = {
    "{": "m.json: not valid JSON",
    '{"kind": "some"}': r"m.json: \$.kind: Invalid enum value 'some'",
    '{"kind": "text", "documents": {"a": "half"}}': "Invalid enum value 'half'",
    '{"kind": "text", "documents": {"a": "full"}, "format": 2}': r"\$.format: is format 2; this version reads format 1",
    '{"kind": "text"}': r"m.json: \$.documents: lists no documents",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_manifest_is_named_with_its_place(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match=BROKEN[text]):
        read_manifest(tmp_path / "m.json")


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_manifest(tmp_path / "m.json")
