"""The supervised system needs torch: without it only `test_config` runs, where one test says so by being skipped."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

if any(find_spec(name) is None for name in ("torch", "transformers", "safetensors")):
    collect_ignore = [file.name for file in Path(__file__).parent.glob("test_*.py") if file.name != "test_config.py"]
