"""What the tests of a run share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small import small_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("small") / "corpus")
