import io
import json

import pytest

from match_rcnn.data.coco import (
    CocoWriter,
    annotation_record,
    category_records,
    encode_annotation,
    image_record,
)
from match_rcnn.data.sources.deepfashion2 import parse_annotation
from match_rcnn.data.taxonomy import DEEPFASHION2


@pytest.fixture
def parsed(real_annotation):
    return parse_annotation(json.dumps(real_annotation).encode(), "file", 468, 624)


def encoded(parsed, compact):
    item = parsed.items[0]
    record = annotation_record(17, parsed, item)
    return json.loads(b'{"id":1,' + encode_annotation(record, item.category, compact))


class TestAnnotation:
    def test_official_values_of_the_real_item(self, parsed, real_item):
        record = encoded(parsed, compact=False)
        assert record["area"] == 43400  # 217 * 200, not the polygons' area
        assert record["bbox"] == [249, 423, 217, 200]
        assert record["category_id"] == 8
        assert record["id"] == 1
        assert record["pair_id"] == 1
        assert record["image_id"] == 17
        assert record["iscrowd"] == 0
        assert record["style"] == 0
        assert record["num_keypoints"] == 7
        assert record["segmentation"] == real_item["segmentation"]
        assert len(record["keypoints"]) == 882
        assert record["keypoints"][:504] == [0] * 504  # trousers are 169 to 182 of the 294
        assert record["keypoints"][504:546] == real_item["landmarks"]
        assert record["keypoints"][546:] == [0] * 336

    def test_keys_that_the_official_converter_drops(self, parsed):
        record = encoded(parsed, compact=False)
        assert record["source"] == "user"
        assert record["item"] == "item1"
        assert record["category_name"] == "trousers"
        assert (record["scale"], record["occlusion"]) == (2, 2)
        assert (record["zoom_in"], record["viewpoint"]) == (3, 2)

    def test_compact_differs_in_the_landmarks_only(self, parsed, real_item):
        dense, compact = encoded(parsed, False), encoded(parsed, True)
        assert compact.pop("keypoints") == real_item["landmarks"]
        dense.pop("keypoints")
        assert compact == dense

    @pytest.mark.parametrize("category", DEEPFASHION2.categories, ids=lambda c: c.name)
    def test_slice_of_every_category(self, real_annotation, category):
        own = list(range(1, 3 * category.num_landmarks + 1))
        own[2::3] = [2] * category.num_landmarks
        real_annotation["item1"].update(
            category_id=category.id, category_name=category.name, landmarks=own
        )
        parsed = parse_annotation(json.dumps(real_annotation).encode(), "file", 468, 624)
        expected = [0] * 882
        expected[3 * category.offset : 3 * category.offset + len(own)] = own
        assert encoded(parsed, compact=False)["keypoints"] == expected


def test_image_record(parsed):
    assert image_record(17, "000017.jpg", 468, 624, parsed) == {
        "coco_url": "",
        "date_captured": "",
        "file_name": "000017.jpg",
        "flickr_url": "",
        "id": 17,
        "license": 0,
        "width": 468,
        "height": 624,
        "source": "user",
        "pair_id": 1,
    }


class TestCategories:
    def test_official(self):
        records = category_records()
        assert [r["id"] for r in records] == list(range(1, 14))
        assert [r["name"] for r in records] == [
            "short_sleeved_shirt",
            "long_sleeved_shirt",
            "short_sleeved_outwear",
            "long_sleeved_outwear",
            "vest",
            "sling",
            "shorts",
            "trousers",
            "skirt",
            "short_sleeved_dress",
            "long_sleeved_dress",
            "vest_dress",
            "sling_dress",
        ]
        for record in records:
            assert record["supercategory"] == "clothes"
            assert record["skeleton"] == []
            assert record["keypoints"] == [str(i) for i in range(1, 295)]

    def test_compact_names_are_the_own_numbers_of_the_294(self):
        names = [r["keypoints"] for r in category_records(compact=True)]
        assert names[7] == [str(i) for i in range(169, 183)]
        assert [name for own in names for name in own] == [str(i) for i in range(1, 295)]


class TestWriter:
    def written(self, *batches, compact=False):
        file = io.BytesIO()
        with CocoWriter(file, compact) as writer:
            for images, annotations in batches:
                writer.write(images, annotations)
        return json.loads(file.getvalue()), writer

    def test_ids_go_on_over_batches(self):
        images = [b'{"id":5}', b'{"id":6}', b'{"id":9}']
        value, writer = self.written(
            (images[:1], [b'"a":0}', b'"a":1}']), (images[1:2], []), (images[2:], [b'"a":2}'])
        )
        assert value["images"] == [{"id": 5}, {"id": 6}, {"id": 9}]
        assert value["annotations"] == [{"id": i + 1, "a": i} for i in range(3)]
        assert (writer.num_images, writer.num_annotations) == (3, 3)

    @pytest.mark.parametrize(("compact", "info"), [(False, {}), (True, {"landmarks": "compact"})])
    def test_empty(self, compact, info):
        value, _ = self.written(compact=compact)
        assert value == {
            "info": info,
            "licenses": [],
            "categories": category_records(compact),
            "annotations": [],
            "images": [],
        }

    def test_images_before_the_first_annotation(self):
        value, _ = self.written(([b"{}"], []), ([b"{}"], [b'"a":0}']))
        assert (len(value["images"]), value["annotations"]) == (2, [{"id": 1, "a": 0}])
