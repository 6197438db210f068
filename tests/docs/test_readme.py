"""The commands of the README and the tutorial, word for word: what can run here runs; of the rest a rule says why not.

What is parsed without being run is in `test_commands`; that README.zh.md has the same commands, in `test_pages`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from m3dllm import cli
from m3dllm.export import export
from tests.clips import write_clip
from tests.corpora.m3d_release import EN, ZH, clip, release
from tests.small import png, small_corpus

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
NOT_HERE = {
    "weights from the hub": r"--model (Qwen/|MODEL)|--preset paper",
    "a model that transcribes": r"--transcribe whisper",
    "a server": r"--base-url",
}
"""Why a command does not run here: what stands in it."""


def commands(heading: str, page: str = README) -> list[str]:
    """The commands in the code blocks of a section, without their comments."""
    section = page.split(f"\n## {heading}")[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    return [line.split(" # ")[0].rstrip() for block in blocks for line in block.splitlines()]


def why_not(command: str) -> str | None:
    return next((why for why, sign in NOT_HERE.items() if re.search(sign, command)), None)


@pytest.fixture
def run_section(tmp_path, monkeypatch, capsys) -> Callable[..., dict[str, str]]:
    """Run the commands of a section in an empty folder, after `before`, and give what each printed."""
    monkeypatch.chdir(tmp_path)

    def run(
        heading: str,
        before: Callable[[], object] = lambda: None,
        instead: dict[str, str] | None = None,
        page: str = README,
    ) -> dict[str, str]:
        before()
        printed = {}
        for command in commands(heading, page):
            words = (instead or {}).get(command, command if why_not(command) is None else "")
            if not words:
                continue
            monkeypatch.setattr("sys.argv", shlex.split(words))
            try:
                cli.main()
                code: object = 0
            except SystemExit as end:
                code = end.code or 0
            out, err = capsys.readouterr()
            assert code == 0, f"{command}\n{err}"
            printed[command] = out + err
        return printed

    return run


def test_every_command_of_the_readme_runs_here_or_a_rule_says_why_not():
    """A new section needs its test; a rule that no command needs any more goes."""
    headings = re.findall(r"^## (.*)$", README, flags=re.MULTILINE)
    shown = [heading for heading in headings if any(line.startswith("m3dllm ") for line in commands(heading))]
    assert shown == [
        "I have the M3D data",
        "I have a video or texts",
        "I have annotations, and predictions of my own",
        "Video LLMs",
    ]
    assert {why_not(command) for command in commands("Video LLMs")} <= {*NOT_HERE}
    used = {why_not(command) for heading in shown for command in commands(heading)}
    assert used - {None} == {*NOT_HERE}


def test_i_have_the_m3d_data(run_section):
    """The two systems whose weights come from the hub are stood in for by the heuristic baselines."""

    def before():
        for split in ("train", "dev", "test"):
            release(Path("PATH"), split=split, en=[EN], zh=[ZH])
        clip(Path("PATH"), f24_png=png())

    majority, *others = (line for line in commands("I have the M3D data") if line.startswith("m3dllm run"))
    instead = {line: majority.replace("runs/majority", line.split(" --out ")[1]) for line in others}
    printed = run_section("I have the M3D data", before, instead)
    assert all(Path(f"runs/{name}/scores.json").is_file() for name in ("majority", "dffm", "qwen"))
    report, view = list(printed)[-2:]
    assert "reports/m3d/report.html" in printed[report]
    assert "views/m3d/index.html" in printed[view]


@pytest.mark.slow
def test_i_have_a_video_or_texts(run_section, caplog):
    pytest.importorskip("av", reason="needs av (the extra video)")
    pytest.importorskip("transformers", reason="needs transformers (the extra llm)")

    def before():
        write_clip(Path("film.mp4"), 60, subtitles=[(0.5, 2.0, "Ada Lovelace was born in London.")])
        shutil.copytree(ROOT / "checkpoints/dffm/demo", "runs/mine")

    printed = run_section("I have a video or texts", before)
    assert len(printed) == 5
    assert "in-domain pretrained: the embedded demonstration model" in caplog.text
    for name in ("corpus/labels.json", "run/predictions.jsonl", "joins.jsonl", "graph/film.jsonld", "page/index.html"):
        assert Path("films/film", name).is_file()
        assert Path("films/mine", name).is_file()
    assert all(any(Path(folder).iterdir()) for folder in ("graph", "neo4j", "tables"))


def test_i_have_annotations_and_predictions_of_my_own(run_section):
    def before():
        own = small_corpus(Path("own"))
        export("label-studio", own, Path("PATH"))
        shutil.copy(own / "test.jsonl", "gold.jsonl")
        shutil.copy(own / "labels.json", "labels.json")
        gold = [json.loads(line) for line in Path("gold.jsonl").read_text(encoding="utf-8").splitlines()]
        said = [json.dumps({"document": line["id"], "annotation": line["gold"]}) for line in gold]
        Path("pred.jsonl").write_text("\n".join(said), encoding="utf-8")
        for name in ("gold.conll", "pred.conll"):
            Path(name).write_text("Ada B-PER\nKing I-PER\nslept O\n", encoding="utf-8")

    printed = run_section("I have annotations, and predictions of my own", before)
    assert list(printed) == commands("I have annotations, and predictions of my own")
    assert json.loads(Path("runs/ours/scores.json").read_text())
    assert Path("reports/ours/report.html").is_file()


@pytest.mark.slow
def test_the_tutorial(run_section):
    """The embedded model answers a few documents in place of all."""
    pytest.importorskip("transformers", reason="needs transformers (the extra llm)")
    run_section("1. Run a system", page=TUTORIAL)
    few = "m3dllm run --system video-llm --out runs/llm"
    assert few in run_section("2. Run a video LLM", instead={few: f"{few} --limit 1"}, page=TUTORIAL)
    assert len(run_section("3. Compare", page=TUTORIAL)) == 2
    assert all(Path("runs/llm", line.split()[0]).is_file() for line in ("run.json", "raw.jsonl", "scores.json"))

    def before():
        export("label-studio", small_corpus(Path("own")), Path("PATH"))

    line = "m3dllm run --system video-llm --model MODEL --corpus corpora/mine --split train"
    run_section("5. Your own data", before, {line: f"{line.replace('--model MODEL ', '')} --limit 1"}, page=TUTORIAL)
