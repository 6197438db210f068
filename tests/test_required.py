"""Parts that must be there where the environment says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_of_a_part():
    pytest.skip("needs the extra 'vllm'")

def test_of_something_else():
    pytest.skip("needs a machine without a GPU")
"""
MODULE = """
import pytest

pytest.importorskip("no_such_module", reason="needs the extra 'llm'")
"""


@pytest.mark.parametrize(
    ("required", "content", "fails"),
    [
        ("", TESTS, False),
        ("llm,chromium", TESTS, False),
        ("chromium, vllm", TESTS, True),
        ("vllm", MODULE, False),
        ("llm", MODULE, True),
    ],
)
def test_what_is_skipped_for_want_of_a_required_part_fails(tmp_path, required, content, fails):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    env = os.environ | {"M3DLLM_REQUIRE": required, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert ("which is not there" in done.stdout) == fails, done.stdout
    assert (done.returncode in (0, 5)) != fails, done.stdout
