import json
import shutil

import pytest

from match_rcnn.reporting.numbers.runs import (
    GENERATED,
    MEASURED,
    UNKNOWN,
    Where,
    backbone_name,
    newest_metrics,
    read_runs,
)
from match_rcnn.reporting.run_report import file_name, write_reports


@pytest.fixture
def where(data):
    return Where(data / "gt.json", data / "image")


def test_scores_are_computed_anew_and_the_rest_is_taken_from_metrics_json(tmp_path, perfect, where):
    folder = shutil.copytree(perfect, tmp_path / "run")
    lines = [{"iteration": 1, "bbox/AP": 3.0}, {"iteration": 2, "retrieval_gt_boxes/top1": 25.0}]
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    (run,) = read_runs([folder], where)
    assert run.metrics["bbox/AP"] == pytest.approx(100)
    assert run.metrics["retrieval_gt_boxes/top1"] == 25
    assert run.metrics["retrieval/top1"] == 50
    assert run.metrics["retrieval/top1-occlusion-medium"] == 50
    assert "retrieval/top1-more_than_five" not in run.metrics  # there are no such queries
    assert run.measured == MEASURED


def test_the_newest_value_counts_and_null_is_nan(tmp_path):
    file = tmp_path / "metrics.json"
    lines = [
        {"bbox/AP": 1.0, "segm/AP": 2.0, "total_loss": 9.0},
        {"bbox/AP": 3.0, "retrieval/top1": None},
        {"total_loss": 8.0},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    found = newest_metrics(file)
    assert found.pop("retrieval/top1") != found.get("bbox/AP")
    assert found == {"bbox/AP": 3.0, "segm/AP": 2.0}


@pytest.mark.parametrize("mark", ["generated.json", "generation.json"])
def test_generated_data_is_called_so(tmp_path, data, perfect, mark):
    folder = shutil.copytree(data, tmp_path / "root" / "annotations")
    (tmp_path / "root" / mark).write_text("{}")
    found = Where(folder / "gt.json", data / "image")
    assert read_runs([perfect], found)[0].measured == GENERATED
    given = Where(folder / "gt.json", data / "image", "measured by hand")
    assert read_runs([perfect], given)[0].measured == "measured by hand"


def test_where_the_evaluator_had_its_data(tmp_path, data, perfect):
    folder = shutil.copytree(perfect, tmp_path / "run")
    noted = {"json_file": str(data / "gt.json"), "image_root": str(data / "image")}
    (folder / "inference" / "tiny" / "data.json").write_text(json.dumps(noted))
    (run,) = read_runs([folder])
    assert run.image_root == data / "image"
    assert run.metrics["segm/AP"] == pytest.approx(100)


def test_without_ground_truth_metrics_json_is_what_there_is(tmp_path):
    (tmp_path / "metrics.json").write_text('{"bbox/AP": 12.5}')
    (run,) = read_runs([tmp_path])
    assert run.metrics == {"bbox/AP": 12.5}
    assert run.measured == UNKNOWN


def test_equal_names_get_a_number(tmp_path, perfect, where):
    again = shutil.copytree(perfect, tmp_path / "perfect")
    assert [run.name for run in read_runs([perfect, again], where)] == ["perfect", "perfect (2)"]


def test_facts_from_the_config(tmp_path, perfect, where):
    folder = shutil.copytree(perfect, tmp_path / "run")
    (folder / "config.yaml").write_text(
        "MODEL: {MATCH_ON: true, ROI_MATCH_HEAD: {FEATURES: pose}, RESNETS: {DEPTH: 18},\n"
        "  BACKBONE: {NAME: build_resnet_fpn_backbone}}\n"
        "SOLVER: {MAX_ITER: 600, IMS_PER_BATCH: 8}\n"
    )
    facts = read_runs([folder], where)[0].facts
    assert facts["backbone"] == "ResNet-18-FPN"
    assert facts["match features"] == "pose"
    assert facts["iterations"] == "600 of 8 images"
    assert facts["annotated items"] == "5"


def test_a_cut_off_line_of_metrics_is_passed_over(tmp_path, caplog):
    file = tmp_path / "metrics.json"
    file.write_text('{"iteration": 9, "bbox/AP": 12.5}\n{"iteration": 19, "bbox/AP": 1')
    assert newest_metrics(file) == {"bbox/AP": 12.5}
    assert "line 2 left out" in caplog.text


@pytest.mark.parametrize(
    ("config", "message"), [("MODEL: [1, {", "is not valid YAML"), ("[1]", "a config's keys")]
)
def test_a_bad_config_is_named(tmp_path, config, message):
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"config\.yaml.* {message}"):
        read_runs([tmp_path])


def test_what_is_asked_for_and_not_there(tmp_path, perfect):
    with pytest.raises(FileNotFoundError, match=r"none\.json is no file"):
        read_runs([perfect], Where(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"has results on .*, not on 'other'"):
        read_runs([perfect], dataset="other")


def test_a_schedule_in_epochs_is_stated_as_such(tmp_path):
    (tmp_path / "config.yaml").write_text("SOLVER: {EPOCHS: 12, MAX_ITER: 40000}")
    (tmp_path / "metrics.json").write_text("{}")
    facts = read_runs([tmp_path])[0].facts
    assert facts["epochs"] == "12"
    assert "iterations" not in facts


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "none", FileNotFoundError, "is no folder"),
        (lambda p: p, FileNotFoundError, "neither inference/"),
        (lambda p: _two_sets(p), ValueError, "a, b; choose one with --dataset"),
    ],
)
def test_one_clear_error(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        read_runs([make(tmp_path)])


def _two_sets(folder):
    for name in ("a", "b"):
        (folder / "inference" / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [("a b/c", "a_b_c"), ("..", "run"), ("index", "index_run"), ("x-1.2", "x-1.2")],
)
def test_file_name(name, file):
    assert file_name(name) == file


def test_a_run_without_anything_still_has_a_page(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("")
    (page,) = write_reports([tmp_path / "run"], tmp_path / "out")
    assert "Nothing to show" in page.read_text()


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({"NAME": "build_resnet_backbone"}, "ResNet-50"),
        ({"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 2}, "ResNet-50-FPN"),
        # What is another network says so itself: RESNETS stays in its config.
        ({"NAME": "build_convnext_fpn_backbone"}, "build_convnext_fpn_backbone"),
        ({"NAME": "build_torchvision_fpn_backbone"}, "convnext_tiny-FPN"),
        ({"NAME": "MyOwn"}, "MyOwn"),
    ],
)
def test_the_backbone_is_the_config_s(backbone, words):
    model = {"RESNETS": {"DEPTH": 50}, "TORCHVISION": {"NAME": "convnext_tiny"}}
    assert backbone_name({"BACKBONE": backbone, **model}) == words
