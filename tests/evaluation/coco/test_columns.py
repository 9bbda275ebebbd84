import pytest

from match_rcnn.evaluation.coco.columns import stream_list


@pytest.mark.parametrize("entries", [[], [{"a": 1}], [1, 2, 3]])
def test_a_list(write, entries):
    assert [entry for batch in stream_list(write("r.json", entries)) for entry in batch] == entries


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"annotations": [1]}])
def test_anything_else(write, value):
    path = write("r.json", value)
    with pytest.raises(ValueError, match="expected a list of entries, got an object") as error:
        list(stream_list(path))
    assert str(path) in str(error.value)
