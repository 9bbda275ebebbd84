import copy
import json

import pytest

from match_rcnn.data.conversion import ConversionError, convert
from match_rcnn.data.problems import Reason
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks.convert import equal_output, plain_loop


def varied(number, real_item):
    """An annotation whose items and values depend on its number."""
    annotation = {"source": "shop" if number % 2 else "user", "pair_id": number // 3}
    for index in range(number % 4):
        item, category = copy.deepcopy(real_item), DEEPFASHION2.categories[(number + index) % 13]
        item.update(category_id=category.id, category_name=category.name, style=number % 3)
        item["landmarks"] = [number, index, (number + index) % 3] * category.num_landmarks
        item["bounding_box"] = [number, index, number + 20.5, index + 30.25]
        annotation[f"item{3 - index}"] = item
    return annotation


@pytest.fixture
def varied_tree(make_tree, real_item, encode_image):
    small = encode_image((300, 200))
    members = {n: varied(n, real_item) for n in range(1, 150)}
    members[200] = (varied(3, real_item), small)
    return make_tree(members)


@pytest.fixture
def broken_tree(make_tree, real_item, encode_image):
    """Every kind of broken input, spread over several chunks, between good images."""

    def annotation(**items):
        return {"source": "user", "pair_id": 5, "item1": real_item, **items}

    def changed(**values):
        return {**real_item, **values}

    members = {n: annotation() for n in range(1, 300)}
    whole, short_landmarks = encode_image(), [0] * 41
    members[3] = annotation(item2=changed(landmarks=short_landmarks), item3=real_item)
    members[40] = b'{"item1": {"style'
    members[70] = (annotation(), whole[: len(whole) // 2])
    members[71] = (annotation(), b"no image")
    members[90] = (annotation(), None)
    members[130] = (None, whole)
    members[131] = annotation(item2=changed(category_id=14), item3=changed(bounding_box=[1] * 4))
    members[170] = annotation(item2=changed(bounding_box=[500, 5, 600, 50]))
    members[210] = annotation(item2=changed(segmentation=[[1, 2, 3, 4]]))
    members[250] = annotation(item2=changed(landmarks=[float("nan")] + [0] * 41))
    members[280] = annotation(item2=changed(bounding_box=[-4, 5, 60, 50]))
    return make_tree(members)


BROKEN = [
    ("train/annos/000003.json", "item2", "wrong landmark list length"),
    ("train/annos/000040.json", None, "unreadable annotation file"),
    ("train/image/000070.jpg", None, "truncated image"),
    ("train/image/000071.jpg", None, "unreadable image"),
    ("train/image/000090.jpg", None, "annotation file without image"),
    ("train/annos/000130.json", None, "image without annotation file"),
    ("train/annos/000131.json", "item2", "unknown category"),
    ("train/annos/000131.json", "item3", "box without area"),
    ("train/annos/000170.json", "item2", "box wholly outside the image"),
    ("train/annos/000210.json", "item2", "polygon of fewer than 3 points"),
    ("train/annos/000250.json", "item2", "not a finite number"),
]


def converted(root, tmp_path, **options):
    output = tmp_path / "out" / "train.json"
    report = convert(root, "train", output, **options)
    return json.loads(output.read_bytes()), report, output


class TestOutput:
    def test_equals_the_plain_loop(self, varied_tree, tmp_path):
        value, report, output = converted(varied_tree, tmp_path)
        plain_loop(varied_tree, tmp_path / "plain.json")
        assert equal_output(output, tmp_path / "plain.json")
        assert value["info"] == {}
        assert (report.images, report.items) == (150, len(value["annotations"]))
        assert report.problems == []

    def test_ids_and_order(self, varied_tree, tmp_path):
        value, _, _ = converted(varied_tree, tmp_path)
        assert [image["id"] for image in value["images"]] == [*range(1, 150), 200]
        assert value["images"][-1]["file_name"] == "000200.jpg"
        assert (value["images"][-1]["width"], value["images"][-1]["height"]) == (300, 200)
        annotations = value["annotations"]
        assert [a["id"] for a in annotations] == list(range(1, len(annotations) + 1))
        # 1 has one item, 2 two, 3 three, 4 none; items are in the file's order, not by name
        assert [a["image_id"] for a in annotations[:7]] == [1, 2, 2, 3, 3, 3, 5]
        assert [a["item"] for a in annotations[:6]] == [f"item{i}" for i in (3, 3, 2, 3, 2, 1)]

    def test_compact(self, varied_tree, tmp_path):
        dense, _, _ = converted(varied_tree, tmp_path)
        compact, _, _ = converted(varied_tree, tmp_path, compact=True)
        assert compact["info"] == {"landmarks": "compact"}
        assert compact["images"] == dense["images"]
        for short, long in zip(compact["annotations"], dense["annotations"], strict=True):
            own = DEEPFASHION2.categories[short["category_id"] - 1].slice
            assert short["keypoints"] == long["keypoints"][3 * own.start : 3 * own.stop]
            assert {**long, "keypoints": None} == {**short, "keypoints": None}

    @pytest.mark.parametrize("compact", [False, True])
    def test_same_bytes_for_every_number_of_workers(self, broken_tree, tmp_path, compact):
        files = []
        for workers in (1, 2, 5):
            output = tmp_path / f"{workers}.json"
            convert(broken_tree, "train", output, compact=compact, workers=workers)
            problems = tmp_path / f"{workers}.json.problems.json"
            files.append((output.read_bytes(), problems.read_bytes()))
        assert files[0] == files[1] == files[2]

    def test_no_images(self, make_tree, tmp_path):
        value, report, _ = converted(make_tree({}), tmp_path)
        assert (value["images"], value["annotations"], report.images) == ([], [], 0)
        assert len(value["categories"]) == 13

    def test_pycocotools_reads_it(self, varied_tree, tmp_path):
        from pycocotools.coco import COCO

        _, report, output = converted(varied_tree, tmp_path)
        coco = COCO(output)
        assert len(coco.getAnnIds()) == report.items
        assert coco.annToMask(coco.loadAnns([1])[0]).shape == (624, 468)

    def test_image_sizes_are_those_without_exif(
        self, make_tree, real_annotation, encode_image, tmp_path
    ):
        from PIL import Image

        turned = Image.Exif()
        turned[0x0112] = 6
        root = make_tree({1: (real_annotation, encode_image(exif=turned))})
        value, _, _ = converted(root, tmp_path)
        assert (value["images"][0]["width"], value["images"][0]["height"]) == (468, 624)


class TestBrokenInput:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_is_left_out_and_listed_in_file_order(self, broken_tree, tmp_path, workers):
        value, report, output = converted(broken_tree, tmp_path, workers=workers)
        found = [(p.file, p.item, p.reason.value) for p in report.problems]
        assert found == BROKEN
        assert [image["id"] for image in value["images"]] == [
            n for n in range(1, 300) if n not in (40, 70, 71, 90, 130)
        ]
        # 294 images with an item each, one more good item in image 3 and one in image 280
        assert len(value["annotations"]) == 294 + 2
        assert report.kept == {Reason.BOX_PARTLY_OUTSIDE: 1}
        listed = json.loads((output.parent / "train.json.problems.json").read_bytes())
        assert [(p["file"], p["item"], p["reason"]) for p in listed["problems"]] == BROKEN
        assert listed["counts"]["images_left_out"] == 5
        assert listed["counts"]["items_left_out"] == 6
        assert listed["counts"]["kept_by_reason"] == {"box partly outside the image": 1}

    @pytest.mark.parametrize("workers", [1, 2])
    def test_fail_ends_at_the_first(self, broken_tree, tmp_path, workers):
        output = tmp_path / "out" / "train.json"
        with pytest.raises(ConversionError) as caught:
            convert(broken_tree, "train", output, workers=workers, on_error="fail")
        assert str(caught.value) == (
            "expected 42 numbers (3 * 14 landmarks) for 'trousers', got 41 "
            "in train/annos/000003.json (item2)"
        )
        assert list(output.parent.iterdir()) == []

    def test_fail_passes_what_is_only_unusual(self, make_tree, real_annotation, tmp_path):
        real_annotation["item1"]["bounding_box"] = [-4, 5, 60, 50]
        value, report, _ = converted(make_tree({1: real_annotation}), tmp_path, on_error="fail")
        assert value["annotations"][0]["bbox"] == [-4, 5, 64, 45]
        assert report.kept == {Reason.BOX_PARTLY_OUTSIDE: 1}

    def test_names_that_are_no_number(self, make_tree, real_annotation, tmp_path):
        root = make_tree({1: real_annotation})
        (root / "train" / "image" / "cover.jpg").touch()
        _, report, _ = converted(root, tmp_path)
        assert [str(p) for p in report.problems] == [
            "expected a number as name, got 'cover.jpg' in train/image/cover.jpg"
        ]
        with pytest.raises(ConversionError, match=r"cover\.jpg"):
            converted(root, tmp_path, on_error="fail")

    def test_folder_in_the_place_of_a_file(self, make_tree, real_annotation, tmp_path):
        root = make_tree({1: real_annotation, 2: (real_annotation, None), 3: real_annotation})
        (root / "train" / "image" / "000002.jpg").mkdir()
        (root / "train" / "annos" / "000003.json").unlink()
        (root / "train" / "annos" / "000003.json").mkdir()
        _, report, _ = converted(root, tmp_path)
        reasons = [p.reason for p in report.problems]
        assert reasons == [Reason.IMAGE_UNREADABLE, Reason.ANNOTATION_UNREADABLE]

    def test_unlike_spellings_of_a_number_are_partners(self, make_tree, real_annotation, tmp_path):
        root = make_tree({7: real_annotation})
        (root / "train" / "image" / "000007.jpg").rename(root / "train" / "image" / "7.jpg")
        value, report, _ = converted(root, tmp_path)
        assert report.problems == []
        assert value["images"][0]["file_name"] == "7.jpg"


class TestArguments:
    def test_no_such_split(self, varied_tree, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"validation.image.*ROOT/SPLIT/image"):
            convert(varied_tree, "validation", tmp_path / "out.json")

    def test_split_without_annotations(self, tmp_path):
        (tmp_path / "test" / "image").mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"test.annos"):
            convert(tmp_path, "test", tmp_path / "out.json")

    @pytest.mark.parametrize("options", [{"workers": 0}, {"on_error": "ignore"}])
    def test_meaningless(self, varied_tree, tmp_path, options):
        with pytest.raises(ValueError, match=r"expected at least one worker|must be one of"):
            convert(varied_tree, "train", tmp_path / "out.json", **options)


def test_an_older_output_survives_a_failure(broken_tree, tmp_path):
    output = tmp_path / "train.json"
    output.write_text("older")
    with pytest.raises(ConversionError):
        convert(broken_tree, "train", output, on_error="fail")
    assert output.read_text() == "older"
