"""What the user can mend is one line that says how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.options import parse_options
from m3dllm.runs import Run
from tests.pipeline.asking import majority


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"system": "majorty"}, "did you mean 'majority'"),
        ({"split": "exam"}, "has no split 'exam'; it has train, dev, test"),
        ({"train": "school"}, "has no train split: 'school' is not there"),
        ({"train": "test"}, "'test' is the split to predict"),
        ({"dev": "school"}, "has no split 'school'; it has train, dev, test"),
        ({"dev": "test"}, "--dev test: is the split to predict"),
        ({"preset": "large"}, "has no preset 'large'"),
        ({"options": {"shotz": "1"}}, "has no option --shotz"),
        ({"missing": "nowhere.json"}, "nowhere.json"),
        ({"checkpoint": Path("nowhere")}, "nowhere: does not exist"),
        ({"corpus": Path("nowhere")}, "nowhere: does not exist"),
        ({"pairs": "silver"}, "--pairs silver: expected end-to-end, gold, both"),
        ({"limit": -1}, "--limit -1 leaves no document"),
        ({"limit_train": 0}, "--limit-train 0 leaves no document"),
        ({"tasks": ()}, "expected some of entity, chain, relation, grounding"),
        ({"tasks": "entity"}, "tasks 'entity': expected some of"),
        ({"system": "nothing"}, "unknown system 'nothing'; known: "),
        ({"options": {"boxes": "-3"}}, "boxes"),
    ],
)
def test_a_word_that_names_nothing_is_one_line_with_the_remedy(corpus, tmp_path, words, message):
    base = {"system": "majority", "corpus": corpus, "out": tmp_path / "run"}
    with pytest.raises(UserError) as caught:
        pipeline.run(Experiment(**(base | words)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:-9]), lambda p: p.write_text("x")]
)
def test_a_frame_that_is_missing_truncated_or_no_image_stops_the_run_before_it_begins(corpus, tmp_path, damage):
    broken = shutil.copytree(corpus, tmp_path / "corpus")
    frame = sorted((broken / "frames").glob("test*/*.png"))[0]
    damage(frame)
    with pytest.raises(UserError, match=frame.name):
        pipeline.run(majority(broken, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_label_set_is_refused(corpus, tmp_path):
    pipeline.run(majority(corpus, tmp_path / "run"))
    other = shutil.copytree(corpus, tmp_path / "corpus")
    labels = json.loads((other / "labels.json").read_text())
    labels["mentions"].append({"name": "ORG"})
    (other / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(UserError, match="another label set"):
        pipeline.run(majority(other, tmp_path / "second", checkpoint=tmp_path / "run"))


def test_a_changed_checkpoint_file_is_refused(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    file = next(p for p in run.checkpoint.iterdir() if p.name != "done.json")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match="truncated or changed"):
        pipeline.run(majority(corpus, tmp_path / "second", checkpoint=tmp_path / "run"))


def test_out_that_is_some_other_folder_is_refused(corpus, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="not a run directory"):
        pipeline.run(majority(corpus, tmp_path / "photos"))
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["one.jpg"]


def test_a_variant_that_is_not_known_is_reported_before_anything_is_done(corpus, tmp_path):
    with pytest.raises(UserError, match="variant 'foo' is not known"):
        pipeline.run(majority(corpus, tmp_path / "run"), variants=("foo",))
    assert not (tmp_path / "run").exists()


def test_a_prompt_log_that_is_damaged_is_one_line(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"sha256": "a", "text": "b"}\n{bad\n')
    with pytest.raises(UserError, match=r"prompts.jsonl:2"), Run(tmp_path).prompt_log():
        pass


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--shots", "2"], {"shots": "2"}),
        (["--box-convention=pixels"], {"box_convention": "pixels"}),
        (["--unconstrained", "--shots", "2"], {"unconstrained": "true", "shots": "2"}),
        (["--without", "dffm", "--without", "mmcm"], {"without": "dffm,mmcm"}),
        (["--offset", "-3"], {"offset": "-3"}),
    ],
)
def test_a_systems_own_options_are_read_from_the_command_line(words, options):
    assert parse_options(words) == options


def test_a_word_without_an_option_is_refused():
    with pytest.raises(UserError, match="'stray' is not the value of an option"):
        parse_options(["stray"])
