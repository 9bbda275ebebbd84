import numpy as np
import pytest
import torch

from match_rcnn.d2 import Boxes, DatasetCatalog, Instances, MetadataCatalog
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.packing import reliability
from match_rcnn.inference.calibration import fit_calibration
from match_rcnn.utils.files import write_json


class Predictor:
    """Finds the same in every photo: one garment, and one thing that is none."""

    taxonomy = DEEPFASHION2

    def instances(self, photo):
        score = float(photo[0, 0, 0]) / 255
        found = Instances(photo.shape[:2])
        found.pred_boxes = Boxes(torch.tensor([[10.0, 10, 30, 30], [40, 40, 50, 50]]))
        found.scores = torch.tensor([score, 0.3 * score])
        found.pred_classes = torch.tensor([7, 7])  # trousers
        return found


@pytest.fixture
def photos(tmp_path):
    """Ten photos with trousers, but for the darkest two, which have none."""
    from PIL import Image

    images, annotations = [], []
    for i in range(10):
        name = f"{i}.png"
        Image.fromarray(np.full((60, 60, 3), 80 + 15 * i, np.uint8)).save(tmp_path / name)
        images.append({"id": i + 1, "file_name": name, "height": 60, "width": 60})
        if i >= 2:
            box = {"bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0, "category_id": 8}
            annotations.append({"id": i + 1, "image_id": i + 1, **box})
    categories = [{"id": c.id, "name": c.name} for c in DEEPFASHION2.categories]
    file = tmp_path / "photos.json"
    write_json(file, {"images": images, "annotations": annotations, "categories": categories})
    items = [{"file_name": str(tmp_path / i["file_name"]), "image_id": i["id"]} for i in images]
    DatasetCatalog.register("packing_photos", lambda: items)
    MetadataCatalog.get("packing_photos").json_file = str(file)
    yield "packing_photos"
    DatasetCatalog.remove("packing_photos")
    MetadataCatalog.remove("packing_photos")


def test_scores_are_fitted_and_the_threshold_has_the_best_f1(photos):
    found = reliability(Predictor(), photos)
    # Of the garments' boxes all but the two least certain are right, of the others none.
    scores = np.array([(80 + 15 * i) / 255 for i in range(10)])
    threshold = float(found.calibration(torch.tensor([scores[2]])))
    assert found.shown_from == pytest.approx(threshold, abs=1e-5)
    assert found.before.counts.sum() == found.after.counts.sum() == 20
    assert found.after.error < found.before.error
    right = np.arange(20) >= 2
    right[10:] = False
    expected = fit_calibration(np.concatenate([scores, 0.3 * scores]), right)
    assert found.calibration.slope == pytest.approx(expected.slope, rel=1e-4)
    assert found.calibration.offset == pytest.approx(expected.offset, rel=1e-4)


def test_a_data_set_without_annotations_is_named(photos, tmp_path):
    file = tmp_path / "empty.json"
    write_json(file, {"images": [], "categories": []})
    MetadataCatalog.remove(photos)
    MetadataCatalog.get(photos).json_file = str(file)
    with pytest.raises(ValueError, match="packing_photos has no annotations"):
        reliability(Predictor(), photos)
