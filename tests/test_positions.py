"""Positions are what a dict of keys would tell, without holding a key, also where every hash collides."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.positions import Positions


@dataclass(frozen=True)
class Clashing:
    """A name that has its hash in common with a third, or with all, of the others."""

    name: str
    hashes: int = 1

    def __hash__(self) -> int:
        return len(self.name) % self.hashes - 1


NAMES = st.text("ab苏珊", max_size=3)
KEYS = st.one_of(
    st.lists(NAMES, max_size=60),
    st.lists(st.tuples(NAMES, st.sampled_from([None, "mentions", "chains"])), max_size=60),
    st.lists(NAMES.map(Clashing), max_size=60),
    st.lists(NAMES.map(lambda name: Clashing(name, 3)), max_size=60),
)


def added(keys) -> tuple[Positions, list, list]:
    """The positions, the keys in their order, and what adding each of `keys` gave."""
    held: list = []
    positions = Positions(held.__getitem__)
    found = []
    for key in keys:
        found.append(positions.add(key))
        if found[-1] is None:
            held.append(key)
    return positions, held, found


@given(keys=KEYS, others=KEYS)
def test_a_key_has_the_position_that_a_dict_would_give_it(keys, others):
    twin: dict = {}
    wanted = []
    for key in keys:
        wanted.append(twin.get(key))
        twin.setdefault(key, len(twin))
    positions, held, found = added(keys)
    assert (found, held, len(positions)) == (wanted, list(twin), len(twin))
    assert [positions.get(key) for key in (*keys, *others)] == [twin.get(key) for key in (*keys, *others)]
    assert [key in positions for key in others] == [key in twin for key in others]


@given(keys=KEYS)
def test_every_key_is_at_the_position_of_one_of_its_candidates(keys):
    positions: Positions = Positions(keys.__getitem__)
    for key in keys:
        positions.append(key)
    for key in keys:
        at = [i for i, other in enumerate(keys) if other == key]
        assert [i for i in positions.candidates(key) if keys[i] == key] == at


@pytest.mark.parametrize("n", [511, 512, 513, 5000])
@pytest.mark.parametrize("smallest", [1, 2, 1024])
def test_a_table_that_grows_keeps_every_key(monkeypatch, n, smallest):
    monkeypatch.setattr("m3dllm.positions.SMALLEST", smallest)
    names = [f"文档 {i}" for i in range(n)]
    positions, _, found = added(names)
    assert found == [None] * n
    assert [positions.get(name) for name in names] == list(range(n))
    assert positions.get(f"文档 {n}") is None


def test_a_new_key_is_added_without_reading_any():
    def refuse(position):
        raise AssertionError(position)

    positions: Positions = Positions(refuse)
    assert [positions.add(f"document {i}") for i in range(2000)] == [None] * 2000


def test_a_key_takes_some_twenty_bytes():
    tracemalloc.start()
    positions: Positions = Positions(str)
    for i in range(100_000):
        positions.add(str(i))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000 * 26
