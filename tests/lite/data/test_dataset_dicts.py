import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, TensorDataset

from match_rcnn.lite.data import (
    DatasetCatalog,
    MetadataCatalog,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from match_rcnn.lite.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
)

pytestmark = pytest.mark.usefixtures("catalogs")

ITEM, CROWD = {"category_id": 0}, {"category_id": 1, "iscrowd": 1}


def image(image_id: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"image_id": image_id, "annotations": list(annotations)}


def ids(dataset_dicts: list[dict[str, Any]]) -> list[int]:
    return [d["image_id"] for d in dataset_dicts]


def test_images_with_only_crowds() -> None:
    images = [image(0), image(1, CROWD), image(2, CROWD, ITEM), image(3, ITEM), {"image_id": 4}]
    assert ids(filter_images_with_only_crowd_annotations(images)) == [2, 3]


@pytest.mark.parametrize("as_array", [False, True])
def test_images_with_few_keypoints(as_array: bool) -> None:
    def points(*visibilities: int) -> dict[str, Any]:
        # Coordinates below 0 and visibilities above 1 must not mislead the count.
        flat = [value for v in visibilities for value in (5.5, -1.5, v)]
        return {"keypoints": np.array(flat).reshape(-1, 3) if as_array else flat}

    images = [
        image(0),
        image(1, points(0, 2)),
        image(2, points(1, 0), points(2, 2, 0)),
        image(3, ITEM),
    ]
    assert ids(filter_images_with_few_keypoints(images, 1)) == [1, 2]
    assert ids(filter_images_with_few_keypoints(images, 3)) == [2]
    assert ids(filter_images_with_few_keypoints(images, 0)) == [0, 1, 2, 3]


class TestHistogram:
    def test_counts(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "match_rcnn.lite.data"):
            print_instances_class_histogram(
                [image(0, ITEM, ITEM, CROWD), image(1, {"category_id": 3}), image(2)],
                ["top", "a very long class name", "skirt", "dress"],
            )
        table = caplog.text
        assert "among all 4 categories" in table
        cells = [cell.strip() for cell in table.replace("\n", "|").split("|")]
        for name, count in (("top", 2), ("a very long..", 0), ("skirt", 0), ("dress", 1)):
            assert cells[cells.index(name) + 1] == str(count)
        assert cells[cells.index("total") + 1] == "3"

    def test_no_image(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "match_rcnn.lite.data"):
            print_instances_class_histogram([], ["top"])
        assert "top" in caplog.text

    @pytest.mark.parametrize("category", [-1, 2])
    def test_unknown_class(self, category: int) -> None:
        with pytest.raises(ValueError, match=f"category_id={category} for a dataset of 2 classes"):
            print_instances_class_histogram([image(0, {"category_id": category})], ["a", "b"])


class TestGetDetectionDatasetDicts:
    def register(self, name: str, *images: dict[str, Any], classes: Any = ("a", "b")) -> None:
        DatasetCatalog.register(name, lambda: list(images))
        if classes:
            MetadataCatalog.get(name).thing_classes = list(classes)

    def test_joins_and_filters(self) -> None:
        self.register("one", image(1, ITEM), image(2))
        self.register("two", image(3, ITEM))
        assert ids(get_detection_dataset_dicts("one")) == [1]
        assert ids(get_detection_dataset_dicts(["two", "one"])) == [3, 1]
        assert ids(get_detection_dataset_dicts(("one", "two"), filter_empty=False)) == [1, 2, 3]

    def test_min_keypoints(self) -> None:
        labelled = {"category_id": 0, "keypoints": [1.5, 1.5, 2]}
        self.register("one", image(1, ITEM), image(2, labelled))
        assert ids(get_detection_dataset_dicts("one", min_keypoints=1)) == [2]

    def test_classes_must_agree(self) -> None:
        self.register("one", image(1, ITEM))
        self.register("two", image(2, ITEM), classes=("a", "c"))
        with pytest.raises(ValueError, match="different metadata 'thing_classes'"):
            get_detection_dataset_dicts(["one", "two"])
        assert len(get_detection_dataset_dicts(["one", "two"], check_consistency=False)) == 2

    def test_without_metadata(self) -> None:
        self.register("one", image(1, ITEM), classes=None)
        assert ids(get_detection_dataset_dicts("one")) == [1]

    def test_images_without_annotations_to_predict_on(self) -> None:
        self.register("one", {"image_id": 1})
        assert ids(get_detection_dataset_dicts("one")) == [1]

    def test_torch_data_sets_pass_through(self) -> None:
        dataset: Any = TensorDataset(torch.arange(3))
        DatasetCatalog.register("torch", lambda: dataset)
        assert get_detection_dataset_dicts("torch") is dataset
        assert isinstance(get_detection_dataset_dicts(["torch", "torch"]), ConcatDataset)

    def test_nothing_there(self) -> None:
        self.register("empty")
        self.register("unusable", image(1, CROWD))
        with pytest.raises(ValueError, match="'empty' is empty"):
            get_detection_dataset_dicts("empty")
        with pytest.raises(ValueError, match="No valid data found in unusable"):
            get_detection_dataset_dicts("unusable")
        with pytest.raises(ValueError, match="No data set is named"):
            get_detection_dataset_dicts(())
        with pytest.raises(KeyError, match="empty, unusable"):
            get_detection_dataset_dicts("unknown")

    def test_proposals_are_refused(self) -> None:
        self.register("one", image(1, ITEM))
        with pytest.raises(NotImplementedError, match=r"p\.pkl.*LOAD_PROPOSALS"):
            get_detection_dataset_dicts("one", proposal_files=["p.pkl"])
        with pytest.raises(NotImplementedError):
            load_proposals_into_dataset([], "p.pkl")
