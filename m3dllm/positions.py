"""Keys and the order in which they came, in about twenty bytes a key: what refuses a repeated id, and finds its line.

A dict of ids needs ten times as much: with millions of documents, more than anything else that a step holds.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
SMALLEST = 2**10
"""The places of an empty table, a power of two."""


class Positions(Generic[K]):
    """Key -> its position among all keys: 0 for the first one that was added, 1 for the second, and so on.

    The keys themselves are not held, only their hashes of 64 bits, and a table with a place for each hash (open
    addressing: the place of its last bits or the next free one). A key is read again, by its position, where its hash
    is there already, so that two keys with one hash are two keys.
    """

    __slots__ = ("_hashes", "_key_at", "_table")

    def __init__(self, key_at: Callable[[int], K]) -> None:
        """`key_at` gives the key of a position, such as by reading its line of a file."""
        self._key_at = key_at
        self._hashes = array("q")
        self._table = array("I", bytes(4 * SMALLEST))
        """In each place a position plus one, or 0; its length is a power of two, and at most half is taken."""

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def get(self, key: K) -> int | None:
        """The position of the key, or None."""
        for position in self.candidates(key):
            if self._key_at(position) == key:
                return position
        return None

    def candidates(self, key: K) -> Iterator[int]:
        """The positions that the key may have by its hash, almost always one or none; no key is read."""
        hashes, table = self._hashes, self._table
        found, last = hash(key), len(table) - 1
        place = found & last
        while taken := table[place]:
            if hashes[taken - 1] == found:
                yield taken - 1
            place = (place + 1) & last

    def add(self, key: K) -> int | None:
        """Add the key at the next position, and return None; if it is there already, only return its position."""
        hashes, table = self._hashes, self._table
        found, last = hash(key), len(table) - 1
        place = found & last
        while taken := table[place]:
            if hashes[taken - 1] == found and self._key_at(taken - 1) == key:
                return taken - 1
            place = (place + 1) & last
        self._put(found, place)
        return None

    def append(self, key: K) -> None:
        """Add the key at the next position, even if it is there already."""
        table = self._table
        found, last = hash(key), len(table) - 1
        place = found & last
        while table[place]:
            place = (place + 1) & last
        self._put(found, place)

    def _put(self, found: int, place: int) -> None:
        self._hashes.append(found)
        self._table[place] = n = len(self._hashes)
        if 2 * n > len(self._table):
            self._grow()

    def _grow(self) -> None:
        last = 2 * len(self._table) - 1
        table = array("I", bytes(4 * (last + 1)))
        for position, found in enumerate(self._hashes, start=1):
            place = found & last
            while table[place]:
                place = (place + 1) & last
            table[place] = position
        self._table = table
