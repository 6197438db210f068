"""Generating systems need torch and transformers: without them only `test_language` runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

if any(find_spec(name) is None for name in ("torch", "transformers", "safetensors")):
    collect_ignore = [file.name for file in Path(__file__).parent.glob("test_*.py") if file.name != "test_language.py"]
