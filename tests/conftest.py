"""What every test may ask for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A first example that loads scipy, or a busy machine, is no failure.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

REQUIRED = tuple(name.strip() for name in os.environ.get("M3DLLM_REQUIRE", "").split(",") if name.strip())
"""Parts that must be there: a test that is skipped for a reason that names one of them fails instead."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """A test that is skipped."""
    return _required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """A module that is skipped."""
    return _required((yield))


def _required(report: pytest.TestReport | pytest.CollectReport) -> pytest.TestReport | pytest.CollectReport:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
        if named := [name for name in REQUIRED if re.search(rf"\b{re.escape(name)}\b", reason, re.IGNORECASE)]:
            report.outcome = "failed"
            report.longrepr = f"M3DLLM_REQUIRE names {', '.join(named)}, which is not there: {reason}"
    return report


ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT / "../shared/data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora, which is no part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real corpora in ../shared/data, which are not part of the project")
    return SHARED_DATA.resolve()


@pytest.fixture(scope="session")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the plugin in tests/plugin is installed."""
    target = tmp_path_factory.mktemp("plugged")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(ROOT / "tests/plugin")], check=True, capture_output=True)
    return os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
