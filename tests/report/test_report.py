"""The report over runs: what it shows, and what it keeps apart."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.report import write_report
from m3dllm.report.groups import groups
from m3dllm.report.published import read_published
from m3dllm.report.scores import BELOW
from m3dllm.score import Settings
from m3dllm.scored import read_runs
from tests.report.reading import change, edit, main_table, reported, rows, section, table_rows
from tests.small import small_corpus

# --- what it shows ---


def test_the_same_runs_give_the_same_bytes_in_any_order(runs, tmp_path):
    paths = [runs / name for name in ("best", "singles0", "thirds")]
    first = reported(paths, tmp_path / "1", fresh=True)
    assert reported([*paths[::-1], paths[0]], tmp_path / "2", fresh=True) == first


def test_runs_are_not_touched(runs, tmp_path):
    def state() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in runs.rglob("*") if file.is_file()}

    before = state()
    reported([runs / "best"], tmp_path, fresh=True)
    assert state() == before


def test_every_score_is_that_of_scores_json(runs, tmp_path):
    texts = reported([runs / "best"], tmp_path)
    languages = json.loads((runs / "best/scores.json").read_text())["languages"]
    found = {(r["lang"], r["pairs"], r["score"]): r for r in rows(texts["scores.csv"])}
    for lang, of in languages.items():
        for pairs in ("end_to_end", "gold_pairs"):
            for name, score in of[pairs]["tasks"].items():
                row = found.pop((lang, pairs, name))
                assert {key: None if row[key] == "" else float(row[key]) for key in score} == score
    assert {name for _, _, name in found} == {"average of entity chain relation grounding"}


def test_the_table_of_a_field_shows_every_system(runs, tmp_path):
    texts = reported([runs / "best", runs / "singles0"], tmp_path)
    english = section(section(texts["report.md"], "## corpus, test, English"), "### Gold mentions and chains")
    best, other = "majority · chain_rule=dev", "majority · chain_rule=singletons"
    assert table_rows(english, best)
    assert table_rows(english, other)
    found = main_table(texts, "en-gold")
    assert [found[best][f"{key}.f1"] for key in ("entity", "chain", "grounding")] == ["1.0", "1.0", "1.0"]
    assert float(found[other]["chain.f1"]) == pytest.approx(0.5397, abs=1e-4)


def test_the_best_is_bold_the_second_underlined_and_what_is_below_a_heuristic_marked(runs, tmp_path):
    text = reported([runs / "best", runs / "singles0"], tmp_path)["report.md"]
    english = section(section(text, "## corpus, test, English"), "### Gold mentions and chains")
    chain = [row[6] for row in table_rows(english, "majority · chain_rule=dev")[:1]]
    assert chain == ["**100.00**"]
    assert table_rows(english, "majority · chain_rule=singletons")[0][6] == f"_53.97_ {BELOW}"


def test_systems_that_are_equal_are_not_marked(runs, tmp_path):
    text = reported([runs / "best", runs / "singles0"], tmp_path)["report.md"]
    english = section(section(text, "## corpus, test, English"), "### Gold mentions and chains")
    assert table_rows(english, "majority · chain_rule=singletons")[0][3] == "100.00"


def test_precision_and_recall_stand_beside(runs, tmp_path):
    found = main_table(reported([runs / "best"], tmp_path), "en-gold")["majority"]
    assert [round(float(found[f"relation.{name}"]), 4) for name in ("precision", "recall", "f1")] == [0.5, 1, 0.6667]


def test_the_best_heuristic_of_each_task_stands_under_the_systems(runs, tmp_path):
    texts = reported([runs / "best"], tmp_path)
    heuristic = main_table(texts, "en-gold")["best heuristic"]
    assert heuristic["kind"] == "heuristic"
    of_chains = [
        float(r["f1"])
        for r in rows(texts["heuristics.csv"])
        if (r["lang"], r["pairs"], r["score"]) == ("en", "gold_pairs", "chain")
    ]
    assert float(heuristic["chain.f1"]) == max(of_chains)
    assert heuristic["entity.f1"] == ""


def test_heuristics_stand_beside_both_protocols(runs, tmp_path):
    texts = reported([runs / "best"], tmp_path)
    assert texts["report.md"].count("over the gold mentions and chains.") == 2
    assert texts["report.md"].count("over the mentions and chains of each run.") == 2
    names = {(r["score"], r["heuristic"]) for r in rows(texts["heuristics.csv"]) if r["lang"] == "zh"}
    assert ("chain", "same last two characters") in names
    assert ("grounding", "most frequent box") in names


def test_seeds_of_one_configuration_are_averaged_and_shown(runs, tmp_path):
    copy = shutil.copytree(runs / "singles1", tmp_path / "singles1")
    change(copy, "en", "end_to_end", "entity", 0.5)
    texts = reported([runs / "singles0", copy], tmp_path / "out")
    english = section(section(texts["report.md"], "## corpus, test, English"), "### End to end")
    assert table_rows(english, "majority")[0][3] == "83.33 (555.56)"  # ((100 - 66.67) / 2)² · 2
    single = {row["run"]: row for row in rows(texts["tables/corpus-test-en-e2e-runs.csv"])}
    assert (single["singles0"]["seed"], float(single["singles0"]["entity.f1"])) == ("0", 1)
    assert float(single["singles1"]["entity.f1"]) == pytest.approx(2 / 3)


def test_runs_of_one_seed_are_no_repetition(runs, tmp_path):
    twin = shutil.copytree(runs / "best", tmp_path / "twin")
    texts = reported([runs / "best", twin], tmp_path / "out")
    assert main_table(texts, "en-e2e").keys() == {"majority (best)", "majority (twin)", "best heuristic"}


def test_the_best_system_is_the_reference(runs, tmp_path):
    found = rows(reported([runs / "best", runs / "singles0"], tmp_path)["differences.csv"])
    best, other = "majority · chain_rule=dev", "majority · chain_rule=singletons"
    assert {(r["label"], r["reference"]) for r in found} == {(other, best)}
    chain = [r for r in found if (r["lang"], r["pairs"], r["score"]) == ("en", "gold_pairs", "chain")]
    assert float(chain[0]["difference"]) == pytest.approx(-0.4603, abs=1e-4)
    assert float(chain[0]["p_holm"]) >= float(chain[0]["p"])


def test_the_report_says_how_a_run_was_made(runs, tmp_path):
    text = section(reported([runs / "best"], tmp_path)["report.md"], "### best")
    record = json.loads((runs / "best/run.json").read_text())
    for digest in record["corpus"]["sha256"].values():
        assert digest in text
    assert f"numpy {record['versions']['numpy']}" in text
    assert "fitted on train, chosen by dev" in text


def test_issues_are_counted_by_code(runs, tmp_path):
    texts = reported([runs / "thirds"], tmp_path)
    lines = (runs / "thirds/predictions.jsonl").read_text().splitlines()
    codes = [issue["code"] for line in lines for issue in json.loads(line)["issues"]]
    assert codes
    assert sum(int(r["count"]) for r in rows(texts["issues.csv"])) == len(codes)


# --- what it keeps apart ---


def test_runs_that_saw_other_modalities_have_a_section_of_their_own(runs, tmp_path):
    text = reported([runs / "best", runs / "thirds"], tmp_path)["report.md"]
    assert "- thirds: other modalities shown" in section(text, "## corpus, test, English")
    thirds = section(text, "## corpus, test, English, missing thirds")
    assert "- best: other modalities shown" in thirds
    shown = section(section(thirds, "### Gold mentions and chains"), "#### Breakdowns")
    assert [row[1:3] for row in table_rows(shown, "average")][:1] == [["text and video", "2"]]


def test_runs_on_other_documents_have_a_section_of_their_own(runs, tmp_path):
    few = tmp_path / "few"
    pipeline.run(Experiment(system="majority", corpus=runs / "corpus", pairs="both", out=few, limit=2))
    text = reported([runs / "best", few], tmp_path / "out")["report.md"]
    assert text.count("## corpus, test, English\n") == 2
    assert "- few: other documents or gold" in text


def test_runs_on_other_documents_are_named_on_the_terminal_and_compared_on_those_that_all_share(runs, tmp_path, caplog):
    few = tmp_path / "few"
    pipeline.run(Experiment(system="majority", corpus=runs / "corpus", pairs="both", out=few, limit=2))
    reported([runs / "best", few], tmp_path / "apart", fresh=True)
    said = "the runs cover different documents of corpus, test, en (2: few; 4: best): they are in separate tables"
    assert said in caplog.text
    caplog.clear()
    texts = reported([runs / "best", few], tmp_path / "out", fresh=True, common=True)
    assert said not in caplog.text
    assert texts["report.md"].count("## corpus, test, English\n") == 1
    alone = main_table(reported([few], tmp_path / "few alone"), "en-gold")["majority"]
    both = main_table(texts, "en-gold")
    assert all({**row, "system": ""} == {**alone, "system": ""} for row in both.values() if row["kind"] == "system")
    assert "--common" in texts["report.html"]


def test_runs_that_share_no_document_have_nothing_in_common(runs, tmp_path):
    first, second = tmp_path / "en", tmp_path / "zh"
    for out, lang in ((first, "en"), (second, "zh")):
        pipeline.run(Experiment(system="majority", corpus=runs / "corpus", lang=lang, out=out))
    with pytest.raises(UserError, match="--common: en, zh share no document"):
        write_report([first, second], tmp_path / "out", common=True)


def test_the_first_screen_has_a_chart_a_language_and_one_table_and_prose_comes_after(runs, tmp_path):
    text = reported([runs / "best", runs / "singles0"], tmp_path)["report.md"]
    first, after = text.split("## Findings")
    for lang in ("English", "Chinese"):
        assert first.count(f"![{lang}, 4 documents, end to end]") == 1
    assert len(table_rows(first, "majority · chain_rule=dev")) == 1
    best = "majority · chain_rule=dev ranks first of 2"
    assert best not in first
    assert text.count(best) == after.count(best) == 4


def test_corpora_stand_side_by_side(runs, tmp_path):
    corpus = small_corpus(tmp_path / "second")
    pipeline.run(Experiment(system="majority", corpus=corpus, pairs="both", out=tmp_path / "elsewhere"))
    first = reported([runs / "best", tmp_path / "elsewhere"], tmp_path / "out")["report.md"].split("## Findings")[0]
    heads = next(line for line in first.splitlines() if line.startswith("| system"))
    assert [
        heads.count(f"{corpus}, test, {lang} average")
        for corpus in ("corpus", "second")
        for lang in ("English", "Chinese")
    ] == [1] * 4
    assert [cell != "–" for cell in table_rows(first, "majority")[0][1:]] == [True] * 4


def test_a_report_may_have_a_title_and_a_folder_of_one_can_be_hosted(runs, tmp_path):
    texts = reported([runs / "best"], tmp_path, title="Mine & yours")
    assert "<h1>Mine &amp; yours</h1>" in texts["report.html"]
    assert "--title &#39;Mine &amp; yours&#39;" in texts["report.html"]
    assert "url=report.html" in texts["index.html"]


def test_a_document_is_shown_and_leads_to_its_page(runs, tmp_path):
    html = reported([runs / "best"], tmp_path, pages=True)["report.html"]
    link = re.search(r'<a class="glimpse" href="(documents/index.html#document=[\w-]+)">', html)
    assert link
    assert 'src="data:image/jpeg;base64,' in html


def test_a_run_that_shows_everything_by_manifest_stands_with_those_that_have_none(runs, tmp_path):
    whole = Path(shutil.copytree(runs / "best", tmp_path / "whole"))
    record = json.loads((whole / "run.json").read_text())
    ids = [json.loads(line)["id"] for line in (whole / "documents.jsonl").read_text().splitlines()]
    record["missing"] = {"kind": "none", "seed": 0, "documents": dict.fromkeys(ids, "full"), "format": 1}
    (whole / "run.json").write_text(json.dumps(record))
    found, _ = read_runs([runs / "best", whole])
    assert [len(group.runs) for group in groups(found)] == [2, 2]


def test_a_run_without_gold_pairs_is_missing_from_their_table_only(runs, tmp_path):
    alone = tmp_path / "alone"
    pipeline.run(Experiment(system="majority", corpus=runs / "corpus", out=alone))
    text = section(reported([runs / "best", alone], tmp_path / "out")["report.md"], "## corpus, test, English")
    assert table_rows(section(text, "### End to end"), "majority (alone)")
    assert "Not run in this setting: alone." in section(text, "### Gold mentions and chains")
    assert not table_rows(section(text, "### Gold mentions and chains"), "majority (alone)")


def test_a_system_of_fewer_tasks_is_marked(runs, tmp_path):
    alone = tmp_path / "alone"
    pipeline.run(Experiment(system="majority", corpus=runs / "corpus", out=alone, tasks=("entity", "chain")))
    text = section(reported([alone], tmp_path / "out")["report.md"], "## corpus, test, English")
    assert "The average is over entity, chain." in text
    assert "relation F1" not in section(text, "### End to end").split("Differences")[0]
    both = section(reported([alone, runs / "best"], tmp_path / "both")["report.md"], "## corpus, test, English")
    assert table_rows(both, "majority (alone)")[0][-1] == "100.00 of 2"


def test_names_that_agree_are_distinguished_by_their_folders(runs, tmp_path):
    twin = shutil.copytree(runs / "best", tmp_path / "other" / "best")
    found, _ = read_runs([runs / "best", twin])
    assert {run.name for run in found} == {f"{runs.name}/best", "other/best"}


def test_a_name_cannot_break_a_table(runs, tmp_path):
    odd = shutil.copytree(runs / "best", tmp_path / "a|b`<i>")
    text = reported([odd], tmp_path / "out")["report.md"]
    assert "| a\\|b\\`&lt;i> | majority |" in text


# --- published rows, baseline, notes, files ---


def test_published_rows_stand_quoted_under_gold_pairs_only(runs, tmp_path):
    texts = reported([runs / "best"], tmp_path, paper="m3d")
    beside = {row["system"]: row for row in rows(texts["tables/corpus-test-en-gold-paper.csv"])}
    quoted = beside["DFFM+MMCM, quoted"]
    assert (quoted["kind"], quoted["chain.f1"]) == ("quoted", "0.5967")
    assert quoted["measured_on"].startswith("the paper's test set, a third of it without text")
    assert beside["majority"]["measured_on"] == "corpus, test, English: 4 documents"
    assert "tables/corpus-test-en-e2e-paper.csv" not in texts
    assert not any("quoted" in name for protocol in ("e2e", "gold") for name in main_table(texts, f"en-{protocol}"))
    assert "Other documents: neither ranked nor compared" in texts["report.md"]


def test_the_average_beside_a_paper_is_of_the_tasks_that_both_have(runs, tmp_path):
    few = tmp_path / "few"
    asked = Experiment(
        system="majority", corpus=runs / "corpus", pairs="both", out=few, tasks=("entity", "chain", "relation")
    )
    pipeline.run(asked)
    beside = rows(reported([few], tmp_path / "out", paper="m3d")["tables/corpus-test-en-gold-paper.csv"])
    assert "grounding.f1" not in beside[0]
    quoted = next(row for row in beside if row["system"] == "DFFM+MMCM, quoted")
    assert float(quoted["average.f1"]) == pytest.approx((0.9124 + 0.5967 + 0.2978) / 3)


def test_beside_a_paper_chains_and_relations_are_by_its_released_code_where_they_were_scored_so(runs, tmp_path, caplog):
    run = Path(shutil.copytree(runs / "best", tmp_path / "best"))
    said = "not every run has the metrics of its released code"
    own = rows(reported([run], tmp_path / "own", paper="m3d")["tables/corpus-test-en-gold-paper.csv"])[0]
    assert said in caplog.text
    caplog.clear()
    pipeline.score(run, settings=Settings(variants=("released",)))
    released = rows(reported([run], tmp_path / "out", fresh=True, paper="m3d")["tables/corpus-test-en-gold-paper.csv"])
    scores = json.loads((run / "scores.json").read_text())["languages"]["en"]["gold_pairs"]["tasks"]
    assert float(own["chain.f1"]) == scores["chain"]["f1"]
    assert float(released[0]["chain.f1"]) == scores["chain.released"]["f1"]
    assert said not in caplog.text


def test_published_averages_are_those_of_their_tasks():
    for rows_of in read_published("m3d").scores.values():
        for row in rows_of:
            mean = sum(row.scores[task][0] for task in ("entity", "chain", "relation", "grounding")) / 4
            assert row.scores["average"][0] == pytest.approx(mean, abs=0.011), row.system


def test_an_unknown_paper_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match="--paper nobody: expected m3d"):
        write_report([runs / "best"], tmp_path / "out", paper="nobody")


def test_a_named_baseline_is_compared_with_besides_the_best(runs, tmp_path):
    found = rows(reported([runs / "best", runs / "singles0"], tmp_path, baseline="singles0")["differences.csv"])
    best, other = "majority · chain_rule=dev", "majority · chain_rule=singletons"
    assert {(r["label"], r["reference"]) for r in found} == {(other, best), (best, other)}


def test_a_note_of_a_system_stands_under_its_row(runs, copied, tmp_path):
    edit(copied, "run.json", notes=["in-domain pretrained"])
    text = reported([copied], tmp_path / "out")["report.md"]
    assert table_rows(text, "majority (a)")
    assert "- a: in-domain pretrained" in text


@pytest.mark.parametrize("empty", [None, "", []])
def test_a_system_without_what_another_has_is_named_by_its_name_alone(runs, copied, tmp_path, empty):
    config = json.loads((copied / "run.json").read_text())["config"]
    edit(copied, "run.json", config=config | {"extra": empty})
    other = tmp_path / "other"
    shutil.copytree(copied, other)
    edit(other, "run.json", config=config | {"extra": "mine"})
    assert {system.label for group in groups(read_runs([copied, other])[0]) for system in group.systems} == {
        "majority",
        "majority · extra=mine",
    }


def test_one_system_asked_once_for_each_protocol_is_one_row_in_each_table(runs, tmp_path):
    alone = tmp_path / "alone"
    for pairs in ("end-to-end", "gold"):
        pipeline.run(Experiment(system="majority", corpus=runs / "corpus", pairs=pairs, out=alone / pairs))
    texts = reported([alone / "end-to-end", alone / "gold"], tmp_path / "out")
    for name in ("en-e2e", "en-gold"):
        assert main_table(texts, name).keys() == {"majority", "best heuristic"}


def test_tables_and_figures_of_an_earlier_report_are_removed(runs, tmp_path):
    first = reported([runs / "best", runs / "thirds"], tmp_path, fresh=True)
    second = reported([runs / "best"], tmp_path, fresh=True)
    gone = first.keys() - second.keys()
    assert gone
    assert all("thirds" in name or "by-missing" in name for name in gone)


@pytest.mark.slow
def test_figures_are_the_same_bytes_again(runs, tmp_path):
    def figures(out: Path) -> dict[str, bytes]:
        write_report([runs / "best", runs / "singles0"], out, pages=False, resamples=50)
        return {file.name: file.read_bytes() for file in (out / "figures").iterdir()}

    found = figures(tmp_path / "1")
    assert {Path(name).suffix for name in found} == {".svg", ".pdf"}
    assert figures(tmp_path / "2") == found


def test_an_average_of_fewer_tasks_is_not_compared(tmp_path):
    corpus = small_corpus(tmp_path / "corpus")
    pipeline.run(Experiment(system="majority", corpus=corpus, out=tmp_path / "all"))
    gold = {"answers": str(corpus / "test.jsonl")}
    pipeline.run(Experiment(system="replay", corpus=corpus, out=tmp_path / "one", tasks=("grounding",), options=gold))
    page = write_report([tmp_path / "all", tmp_path / "one"], tmp_path / "out").with_name("report.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| replay | – | – | – |"))
    assert row.count("100.00 of 1 |") == 2
    assert "is not compared" in page
