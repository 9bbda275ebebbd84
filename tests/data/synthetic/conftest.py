import pytest

from match_rcnn.data.synthetic.products import Catalogue
from match_rcnn.data.synthetic.scene import draw_picture


@pytest.fixture(scope="session")
def validation_pictures():
    """A whole validation set of 240 images at 96 pixels."""
    catalogue = Catalogue(3, "validation", 240)
    return [draw_picture(catalogue, i, 96) for i in range(240)]


@pytest.fixture
def items_of():
    """The items of an annotation, in the order of their numbers."""

    def items(annotation):
        keys = [key for key in annotation if key.startswith("item")]
        return [annotation[key] for key in sorted(keys, key=lambda key: int(key[4:]))]

    return items
