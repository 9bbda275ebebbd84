import copy
import io
import json

import pytest
from PIL import Image

# The whole real item that the DeepFashion2 repository's documentation shows; its image has
# 468 x 624 pixels.
REAL_ITEM = {
    "segmentation": [
        [
            *(460, 438, 374, 484, 251, 520, 269, 586, 298, 622, 410, 623, 410, 567),
            *(413, 591, 420, 623, 465, 622, 456, 561, 466, 504, 460, 438),
        ],
        [374, 484, 251, 520, 269, 586, 298, 622, 410, 623, 410, 567, 374, 484],
        [
            *(460, 438, 374, 484, 410, 567, 413, 591, 420, 623, 465, 622, 456, 561),
            *(466, 504, 460, 438),
        ],
    ],
    "scale": 2,
    "viewpoint": 2,
    "zoom_in": 3,
    "landmarks": [
        *(251, 520, 1, 374, 484, 1, 460, 438, 1, 269, 586, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        *(0, 0, 0, 410, 567, 1, 413, 591, 2, 0, 0, 0, 0, 0, 0, 456, 561, 2, 0, 0, 0),
    ],
    "style": 0,
    "bounding_box": [249, 423, 466, 623],
    "category_id": 8,
    "occlusion": 2,
    "category_name": "trousers",
}
REAL_SIZE = (468, 624)


@pytest.fixture
def real_item():
    return copy.deepcopy(REAL_ITEM)


@pytest.fixture
def real_annotation(real_item):
    return {"item1": real_item, "source": "user", "pair_id": 1}


@pytest.fixture(scope="session")
def encode_image():
    """Bytes of an image file with some texture."""

    def encode(size=REAL_SIZE, mode="RGB", kind="JPEG", **options):
        file = io.BytesIO()
        image = Image.radial_gradient("L").resize(size).convert(mode)
        image.save(file, kind, **options)
        return file.getvalue()

    return encode


@pytest.fixture
def make_tree(tmp_path, encode_image):
    """Write a split: number -> (annotation or raw bytes or None, image bytes or None).

    The image defaults to one of 468 x 624 pixels. Returns ROOT.
    """
    image = encode_image()

    def make(members, split="train"):
        for folder in ("image", "annos"):
            (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
        for number, member in members.items():
            annotation, pixels = member if isinstance(member, tuple) else (member, image)
            if annotation is not None:
                raw = annotation if isinstance(annotation, bytes) else json.dumps(annotation)
                path = tmp_path / split / "annos" / f"{number:06d}.json"
                path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
            if pixels is not None:
                (tmp_path / split / "image" / f"{number:06d}.jpg").write_bytes(pixels)
        return tmp_path

    return make
