"""What a report says first: who wins, in which task, and how surely."""

from __future__ import annotations

import shutil

from tests.report.reading import change, reported

BEST, SINGLES = "majority · chain_rule=dev", "majority · chain_rule=singletons"


def finding(paths, out, where: str) -> str:
    """The first lines of the report, at one place."""
    lines = reported(paths, out)["report.md"].splitlines()
    return next(line.partition("**: ")[2] for line in lines if line.startswith(f"- **{where}"))


def test_it_names_the_best_and_how_far_it_is_ahead(runs, tmp_path):
    found = finding([runs / "best", runs / "singles0"], tmp_path, "English, gold mentions and chains")
    assert found.startswith(f"{BEST} ranks first of 2, average F1 91.67, 11.51 points ahead of {SINGLES}, ")
    assert "after Holm" in found


def test_it_says_in_which_tasks_the_best_is_first(runs, tmp_path):
    found = finding([runs / "best", runs / "singles0"], tmp_path, "English, gold mentions and chains")
    assert f"In entity, relation and grounding it ties with {SINGLES}." in found
    assert "It is first in chain, " in found


def test_it_names_who_is_first_where_the_best_is_not(runs, tmp_path):
    worse = shutil.copytree(runs / "best", tmp_path / "best")
    change(worse, "en", "gold_pairs", "entity", 0.5)
    found = finding([worse, runs / "singles0"], tmp_path / "out", "English, gold mentions and chains")
    assert f"In entity {SINGLES} is first, 33.33 points ahead of it, " in found


def test_a_system_alone_is_compared_with_nobody(runs, tmp_path):
    assert finding([runs / "thirds"], tmp_path, "English, missing thirds").startswith("majority alone, average F1 ")


def test_it_says_on_how_many_documents(runs, tmp_path):
    assert "- **English, gold mentions and chains: 4 documents**: " in reported([runs / "best"], tmp_path)["report.md"]
