import logging
from typing import Any

import numpy as np
import pytest

from match_rcnn.lite.data import (
    DatasetCatalog,
    MetadataCatalog,
    get_detection_dataset_dicts,
)

pytestmark = pytest.mark.usefixtures("catalogs")

ITEM, CROWD = {"category_id": 0}, {"category_id": 1, "iscrowd": 1}


def image(image_id: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"image_id": image_id, "annotations": list(annotations)}


def ids(dataset_dicts: list[dict[str, Any]]) -> list[int]:
    return [d["image_id"] for d in dataset_dicts]


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

    def test_images_with_only_crowds(self) -> None:
        self.register("one", image(0), image(1, CROWD), image(2, CROWD, ITEM), image(3, ITEM))
        assert ids(get_detection_dataset_dicts("one")) == [2, 3]

    @pytest.mark.parametrize("as_array", [False, True])
    @pytest.mark.parametrize(("fewest", "kept"), [(0, [1, 2, 3]), (1, [1, 2]), (3, [2])])
    def test_images_with_few_keypoints(self, as_array: bool, fewest: int, kept: list[int]) -> None:
        def points(*visibilities: int) -> dict[str, Any]:
            # Coordinates below 0 and visibilities above 1 must not mislead the count.
            flat = [value for v in visibilities for value in (5.5, -1.5, v)]
            shaped = np.array(flat).reshape(-1, 3) if as_array else flat
            return {"category_id": 0, "keypoints": shaped}

        few, enough = image(1, points(0, 2)), image(2, points(1, 0), points(2, 2, 0))
        self.register("one", image(0), few, enough, image(3, ITEM))
        assert ids(get_detection_dataset_dicts("one", min_keypoints=fewest)) == kept

    def test_items_of_each_class_are_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        images = image(0, ITEM, ITEM, CROWD), image(1, {"category_id": 3})
        self.register("one", *images, classes=["top", "coat", "skirt", "dress"])
        with caplog.at_level(logging.INFO, "match_rcnn.lite.data"):
            get_detection_dataset_dicts("one")
        counted = dict(line.split() for line in caplog.text.splitlines() if len(line.split()) == 2)
        expected = {"top": "2", "coat": "0", "skirt": "0", "dress": "1", "total": "3"}
        assert expected.items() <= counted.items()

    @pytest.mark.parametrize("category", [-1, 2])
    def test_unknown_class(self, category: int) -> None:
        self.register("one", image(0, {"category_id": category}))
        with pytest.raises(ValueError, match=f"category_id {category} does not exist.* the 2 "):
            get_detection_dataset_dicts("one")

    def test_classes_must_agree(self) -> None:
        self.register("one", image(1, ITEM))
        self.register("two", image(2, ITEM), classes=("a", "c"))
        with pytest.raises(ValueError, match="same thing_classes: 'one' has"):
            get_detection_dataset_dicts(["one", "two"])

    def test_without_metadata(self) -> None:
        self.register("one", image(1, ITEM), classes=None)
        assert ids(get_detection_dataset_dicts("one")) == [1]

    def test_images_without_annotations_to_predict_on(self) -> None:
        self.register("one", {"image_id": 1})
        assert ids(get_detection_dataset_dicts("one")) == [1]

    def test_nothing_there(self) -> None:
        self.register("empty")
        self.register("unusable", image(1, CROWD))
        with pytest.raises(ValueError, match="data set 'empty' holds no image"):
            get_detection_dataset_dicts("empty")
        with pytest.raises(ValueError, match="unusable: every image was left out"):
            get_detection_dataset_dicts("unusable")
        with pytest.raises(ValueError, match="no data set is named"):
            get_detection_dataset_dicts(())
        with pytest.raises(KeyError, match="empty, unusable"):
            get_detection_dataset_dicts("unknown")
