import json

import pytest

from match_rcnn.utils.columns import stream_list


@pytest.mark.parametrize("entries", [[], [{"a": 1}], [1, 2, 3]])
def test_a_list(tmp_path, entries):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(entries))
    assert [entry for batch in stream_list(path) for entry in batch] == entries


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"annotations": [1]}])
def test_anything_else(tmp_path, value):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="expected a list of entries, got an object") as error:
        list(stream_list(path))
    assert str(path) in str(error.value)
