import json

import pytest

from match_rcnn.data.image_sources import SOURCE_FILES, read_image_sources


@pytest.fixture
def write(tmp_path):
    def write(source, value):
        (tmp_path / SOURCE_FILES[source]).write_text(json.dumps(value))

    return write


def test_each_file_tells_its_images(tmp_path, write):
    write("user", {"info": {}, "images": [{"id": 2, "file_name": "000002.jpg"}, {"id": 7}]})
    assert read_image_sources(tmp_path) == {2: "user", 7: "user"}
    write("shop", {"images": [{"id": 9}], "categories": [{"id": 1}]})
    assert read_image_sources(tmp_path) == {2: "user", 7: "user", 9: "shop"}


def test_no_files(tmp_path):
    assert read_image_sources(tmp_path) == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"images": []}, "no list 'images'"),
        ({"annotations": [{"id": 4}]}, "no list 'images'"),
        ([{"id": 4}], "no list 'images'"),
        ({"images": [{"id": "4"}]}, "whole number as id"),
        ({"images": [4]}, "whole number as id"),
    ],
)
def test_bad_files(tmp_path, write, value, message):
    write("shop", value)
    with pytest.raises(ValueError, match=message) as error:
        read_image_sources(tmp_path)
    assert SOURCE_FILES["shop"] in str(error.value)
