"""The command match-rcnn: what it lists, what it starts, how it answers people and machines."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from match_rcnn import cli
from match_rcnn.catalogue import recognition
from match_rcnn.commands import visualize
from match_rcnn.commands.predict import predictor_of
from match_rcnn.utils.shipped import config_file, configs_folder

ROOT = Path(__file__).parents[1]


def test_every_command_has_its_module_and_every_tool_its_command():
    modules = {path.stem for path in (ROOT / "match_rcnn/commands").glob("[!_]*.py")}
    assert {re.sub(r"[ -]", "_", name) for name in cli.COMMANDS} == modules
    started = [re.search(r'tool\("(.*)"\)', f.read_text())[1] for f in ROOT.glob("tools/*.py")]
    assert set(started) <= set(cli.COMMANDS)


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from match_rcnn.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print({'torch', 'numpy', 'cv2'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["set()"]
    words = done.stdout.split()
    assert all(name.split()[0] in words for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*name.split(), "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: match-rcnn {name}")


def test_a_wrong_command_is_told(capsys):
    with pytest.raises(SystemExit):
        cli.main(["trian"])
    assert "trian" in capsys.readouterr().err
    assert cli.main([]) == 2


def test_version_says_host_torch_and_device(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["match-rcnn", "host", "torch", "device", "python"]


def test_completion_knows_arguments_of_commands():
    script = cli.completion("bash")
    assert "--same-category" in script
    assert "convert" in script


def test_the_same_answer_for_people_and_for_machines(generated_datasets, tmp_path, capfd):
    truth = generated_datasets / "deepfashion2/annotations/validation.json"
    words = ["dataset-report", str(truth), "--output", str(tmp_path)]
    assert cli.main(words) == 0
    text = capfd.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert f"report: {answer['report']}" in text
    assert all(table["title"] in text for table in answer["tables"])


def test_what_is_wrong_takes_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "none"), "--output", str(tmp_path)]) == 1
    found = capsys.readouterr()
    assert found.err.startswith("error: ")
    assert len(found.err.splitlines()) == 1
    with pytest.raises(SystemExit) as end:
        cli.main(["visualize", "--input", "x"])
    assert end.value.code == 2
    assert "predictions need --weights" in capsys.readouterr().err


def test_a_reader_who_has_had_enough_gets_no_traceback(generated_datasets, tmp_path):
    truth = generated_datasets / "deepfashion2/annotations/validation.json"
    words = ["dataset-report", str(truth), "--output", str(tmp_path)]
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "match_rcnn", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_pipe_that_breaks_within_a_command_is_told(monkeypatch, tmp_path, capsys):
    def run(args):
        raise BrokenPipeError(32, "a worker is gone")

    monkeypatch.setattr("match_rcnn.commands.report.run", run)
    assert cli.main(["report", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: [Errno 32] a worker is gone\n"


def test_configs_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = config_file("quickstart")
    assert named == config_file("quickstart.yaml") == configs_folder() / "quickstart.yaml"
    assert config_file(named) == named
    own = tmp_path / "quickstart"  # a file of one's own comes first
    own.write_text("VERSION: 2\n")
    assert config_file("quickstart") == Path("quickstart")
    for wrong in ("nothing", "other/quickstart_match.yaml"):
        with pytest.raises(FileNotFoundError, match="quickstart_match"):
            config_file(wrong)


def test_garments_are_shown_from_the_models_own_score_on(model_file):
    """As from Python; 0.5 where the model has no score of its own."""

    def shown_from(*words):
        args = cli.command_parser("predict").parse_args(["x.jpg", "--output", "out", *words])
        return predictor_of(args)._threshold

    weights = ("--weights", str(model_file))
    assert shown_from(*weights) == 0.5
    assert shown_from(*weights, "--opts", "TEST.SHOWN_FROM", "0.17") == 0.17
    assert shown_from(*weights, "--score-threshold", "0") == 0


def test_galleries_and_pictures_go_by_the_model_s_own_score_too(model_file, tmp_path, monkeypatch):
    photos, asked = tmp_path / "photos", []
    photos.mkdir()
    shutil.copy(next((ROOT / "samples").glob("*.jpg")), photos)

    class Told(Exception):
        """What was asked for is known; no more is wanted."""

    def told(cfg, score_threshold=None):
        asked.append(score_threshold)
        raise Told

    monkeypatch.setattr(recognition, "MatchRCNNPredictor", told)
    monkeypatch.setattr(visualize, "MatchRCNNPredictor", told)
    weights = ("--weights", str(model_file))
    index = ("index", *weights, "--catalogue", str(photos), "--output", str(tmp_path / "index"))
    pictures = ("visualize", *weights, "--input", str(photos), "--output", str(tmp_path / "drawn"))
    for words in (
        index,
        (*index, "--min-score", "0.3"),
        pictures,
        (*pictures, "TEST.SHOWN_FROM", "0.17"),
    ):
        with pytest.raises(Told):
            cli.main(list(words))
    assert asked == [0.5, 0.3, 0.5, 0.17]
