"""`adapter.toml`: a table is read as it was written."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from m3dllm.systems.videollm.adapters.card import to_toml

_plain = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f")),
    st.booleans(),
    st.integers(-9, 9),
    st.floats(0, 1),
)
_keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), min_size=1)


@given(
    st.dictionaries(
        _keys,
        st.one_of(
            _plain,
            st.lists(_plain),
            st.dictionaries(_keys, _plain),
            st.lists(st.dictionaries(_keys, _plain), min_size=1),
        ),
    )
)
def test_a_table_is_read_as_it_was_written(table):
    assert tomllib.loads(to_toml(table)) == table
