"""Maximum one-to-one matching of predictions with gold."""

from __future__ import annotations

from collections.abc import Sequence


def largest_matching(partners: Sequence[Sequence[int]]) -> int:
    """The size of a maximum one-to-one matching of `matched`."""
    return len(matched(partners))


def matched(partners: Sequence[Sequence[int]]) -> dict[int, int]:
    """A maximum one-to-one matching, left -> right vertex; `partners[i]`: those that the left vertex i may match.

    Free partners are matched first; then a breadth-first search finds an augmenting path from each remaining vertex.
    A search stays in its connected component, and vertices of a failed search can be skipped later (Berge 1957).
    """
    taken_by: dict[int, int] = {}
    taken: dict[int, int] = {}
    left_over = []
    for left, rights in enumerate(partners):
        free = next((right for right in rights if right not in taken_by), None)
        if free is not None:
            taken_by[free], taken[left] = left, free
        elif rights:
            left_over.append(left)
    dead: set[int] = set()
    for left in left_over:
        _augment(left, partners, taken_by, taken, dead)
    return taken


def matched_in_order(partners: Sequence[Sequence[int]]) -> frozenset[int]:
    """The left vertices of a maximum matching that adds each, in order, if it can be matched with those before it.

    Of the first k vertices it holds as many as any matching: sets that can be matched are the independent sets of a
    transversal matroid, for which the greedy choice is optimal (Edmonds and Fulkerson 1965).
    """
    taken_by: dict[int, int] = {}
    taken: dict[int, int] = {}
    dead: set[int] = set()
    for left in range(len(partners)):
        _augment(left, partners, taken_by, taken, dead)
    return frozenset(taken)


def _augment(
    start: int, partners: Sequence[Sequence[int]], taken_by: dict[int, int], taken: dict[int, int], dead: set[int]
) -> None:
    """Match `start` by moving others along an augmenting path; if there is none, the visited vertices become `dead`."""
    reached_from: dict[int, int] = {}
    queue = [start]
    for left in queue:
        for right in partners[left]:
            if right in reached_from or right in dead:
                continue
            reached_from[right] = left
            if right in taken_by:
                queue.append(taken_by[right])
                continue
            step: int | None = right
            while step is not None:
                mover = reached_from[step]
                taken_by[step] = mover
                taken[mover], step = step, taken.get(mover)
            return
    dead.update(reached_from)
