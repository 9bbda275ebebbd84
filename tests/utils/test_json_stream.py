import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.utils.json_stream import stream_arrays

VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | st.text('ab"\\[]{},:é', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\[{', max_size=3), inner)
    ),
    max_leaves=8,
)


def collect(path: Path, chunk_bytes: int) -> dict[str | None, list[object]]:
    arrays: dict[str | None, list[object]] = {}
    for key, elements in stream_arrays(path, chunk_bytes):
        arrays.setdefault(key, []).extend(elements)
    return arrays


@settings(max_examples=60, deadline=None)
@given(
    elements=st.lists(VALUES, max_size=5),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
)
def test_a_file_that_is_one_array(tmp_path_factory, elements, chunk, indent):
    path = tmp_path_factory.mktemp("stream") / "a.json"
    path.write_text(json.dumps(elements, indent=indent), encoding="utf-8")
    assert collect(path, chunk) == {None: elements}


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(st.text('k"\\]}', max_size=3), VALUES), chunk=st.integers(1, 40))
def test_a_file_that_is_an_object_with_arrays(tmp_path_factory, value, chunk):
    path = tmp_path_factory.mktemp("stream") / "a.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    assert collect(path, chunk) == {k: v for k, v in value.items() if isinstance(v, list)}


def test_elements_come_in_batches(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"i": i} for i in range(100)]))
    batches = [elements for _, elements in stream_arrays(path, chunk_bytes=50)]
    assert len(batches) > 10
    assert max(map(len, batches)) < 10


def test_nan_comes_through_as_python_reads_it(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"score": NaN}]')
    (_, (element,)), *_ = stream_arrays(path)
    assert element["score"] != element["score"]


@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither an array nor an object"),
        ("12", "neither an array nor an object"),
        ('[{"a": 1}, {"a"', "cut off"),
        ('{"annotations": [{"a": 1}', "cut off"),
        ('["abc', "cut off"),
        ('[{"a": 1} {"a": 2}]', "near byte"),  # no comma
        ('[{"a": 1},]', "near byte"),  # a comma too many
        ('[{"a": 1,}]', "near byte"),
        ('[{"a": oops}]', "near byte"),
        ('[{"a": 1}}', "not closed by"),
        ("[]]", "never opened"),
        ("[][]", "more than one value"),
    ],
)
def test_what_is_not_json_is_named(tmp_path, text, reason, chunk):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        collect(path, chunk)
    assert "broken.json" in str(error.value)
