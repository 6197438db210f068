"""The counts of many documents in columns: a byte or a few for each count, where objects take a hundred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import fsum
from typing import TYPE_CHECKING, Any

from m3dllm.score.scores import COUNTS, DocumentScore, TaskScores, total
from m3dllm.types import PRF, Subset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.bytes_]

BLOCK = 4096
"""The number of documents whose counts are collected before they are put into columns."""


@dataclass(frozen=True, slots=True, eq=False)
class DocumentCounts:
    """The counts of documents of one language and protocol, in their order."""

    kinds: frozenset[tuple[str, str]]
    """The languages and protocols of the documents: one of each, unless they are mixed up."""
    names: tuple[str, ...]
    """The counts that any document has, in the order in which they occur."""
    documents: Ids
    groups: Ids
    """(documents,): their groups; a document without one is its own."""
    subsets: tuple[Subset, ...]
    """The modalities given of any document."""
    subset: NDArray[np.uint8]
    """(documents,): which of `subsets` was given of each."""
    blocks: tuple[NDArray[Any], ...]
    """(documents of the block, names known by then, 4): p_num, p_den, r_num, r_den; 0 where a task does not count."""

    @classmethod
    def of(cls, rows: Iterable[DocumentScore]) -> DocumentCounts:
        import numpy as np

        names: dict[str, int] = {}
        subsets: dict[Subset, int] = {}
        kinds: set[tuple[str, str]] = set()
        documents: list[Ids] = []
        groups: list[Ids] = []
        blocks: list[NDArray[Any]] = []
        subset = bytearray()
        left = iter(rows)
        while part := list(islice(left, BLOCK)):
            kinds.update((row.lang, row.pairs) for row in part)
            for name in chain.from_iterable(row.tasks for row in part):
                names.setdefault(name, len(names))
            counts = np.zeros((len(part), len(names), len(COUNTS)))
            for i, row in enumerate(part):
                for name, of in row.tasks.items():
                    counts[i, names[name]] = of.p_num, of.p_den, of.r_num, of.r_den
            documents.append(ids_of(row.document for row in part))
            groups.append(ids_of(row.group or row.document for row in part))
            subset.extend(subsets.setdefault(row.subset, len(subsets)) for row in part)
            blocks.append(_smallest(counts))
        ids, of_groups = (np.concatenate([ids_of(()), *parts]) for parts in (documents, groups))
        shown = np.frombuffer(subset, np.uint8)
        return cls(frozenset(kinds), tuple(names), ids, of_groups, tuple(subsets), shown, tuple(blocks))

    def __len__(self) -> int:
        return len(self.documents)

    def counts(self, names: Sequence[str]) -> Iterator[NDArray[np.float64]]:
        """(documents of a block, names, 4), block by block."""
        import numpy as np

        which = [self.names.index(name) for name in names]
        for block in self.blocks:
            whole = np.zeros((len(block), len(self.names), len(COUNTS)))
            whole[:, : block.shape[1]] = block
            yield whole[:, which]

    def places_in(self, ids: Ids) -> NDArray[np.intp]:
        """(documents,): the position of each document in `ids`; -1 if it is not there."""
        import numpy as np

        if np.array_equal(self.documents, ids):
            return np.arange(len(ids))
        if not len(ids):
            return np.full(len(self), -1)
        order = np.argsort(ids, kind="stable")
        found = order[np.searchsorted(ids, self.documents, sorter=order).clip(max=len(ids) - 1)]
        return np.where(ids[found] == self.documents, found, -1)

    def total(self, chosen: NDArray[np.bool_]) -> TaskScores:
        """The scores over the chosen documents. `chosen`: (documents,)."""
        begins = [0]
        for block in self.blocks:
            begins.append(begins[-1] + len(block))
        parts = [block[chosen[begin : begin + len(block)]] for begin, block in zip(begins, self.blocks, strict=False)]
        sums = {
            name: PRF(*(fsum(_numbers(parts, j, k)) for k in range(len(COUNTS)))) for j, name in enumerate(self.names)
        }
        return total([sums])


def ids_of(names: Iterable[str]) -> Ids:
    """(names,): names in UTF-8, which sort as they do."""
    import numpy as np

    left, parts = iter(names), [np.array([], "S")]
    while part := [name.encode() for name in islice(left, BLOCK)]:
        parts.append(np.array(part))
    return np.concatenate(parts)


def _numbers(parts: Iterable[NDArray[Any]], j: int, k: int) -> Iterator[float]:
    """One column of counts, block by block."""
    return chain.from_iterable(part[:, j, k].tolist() for part in parts if j < part.shape[1])


def _smallest(counts: NDArray[np.float64]) -> NDArray[Any]:
    """The same numbers in the smallest type that holds them."""
    import numpy as np

    for kind in (np.uint8, np.uint32):
        with np.errstate(invalid="ignore"):
            small = counts.astype(kind)
        if np.array_equal(small, counts):
            return small
    return counts
