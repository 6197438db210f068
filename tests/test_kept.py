"""What is made of an annotation and kept for who asks next."""

from __future__ import annotations

from m3dllm.kept import MOST, kept
from m3dllm.types import Annotation, Chain, Mention


def of(end: int) -> Annotation:
    return Annotation((Chain("c", (Mention(0, end, "PER"),)),))


def test_of_one_annotation_it_is_made_once_for_each_argument():
    made = []

    @kept
    def ends(annotation: Annotation, more: int = 0) -> list[int]:
        made.append(more)
        return [mention.end + more for mention in annotation.mentions]

    one = of(3)
    assert ends(one) is ends(one)
    assert ends(one, 2) is ends(one, 2)
    assert (ends(one), ends(one, 2), made) == ([3], [5], [0, 2])
    assert ends(of(3)) is not ends(one)


def test_annotations_that_come_and_go_are_never_taken_for_one_another():
    ends = kept(lambda annotation: [mention.end for mention in annotation.mentions])
    assert [ends(of(n)) for n in range(1, 20 * MOST)] == [[n] for n in range(1, 20 * MOST)]
