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


NUMBERS = st.lists(st.integers(-9, 99) | st.sampled_from([0.0, 0.5, 1e-7]), max_size=4)
ELEMENTS = st.fixed_dictionaries(
    {"id": st.integers(0, 9)},
    optional={
        "points": NUMBERS | st.sampled_from([None, 0, 1, "0", [[1]], ["]"], {"points": [1]}]),
        "outline": st.lists(NUMBERS, min_size=1, max_size=2)
        | st.sampled_from([[], 0, {"counts": "a]]b", "outline": [[2]]}, [["x]]"]]]),
        "name": st.sampled_from(['"points":[1]', "},{", "é]"]),
    },
)
FORMS = [
    {"separators": (",", ":")},
    {"ensure_ascii": False},
    {"indent": 1},
]


@settings(max_examples=150, deadline=None)
@given(
    elements=st.lists(ELEMENTS, max_size=8),
    chunk=st.sampled_from([7, 40, 100, 4096]),
    form=st.sampled_from(FORMS),
    whole=st.booleans(),
)
def test_lifted_values_are_the_text_of_the_lists(tmp_path_factory, elements, chunk, form, whole):
    path = tmp_path_factory.mktemp("lift") / "a.json"
    others = [{"points": ["0"]}, {"points": [3]}]
    value = elements if whole else {"first": others, "a": elements, "last": others}
    path.write_text(json.dumps(value, **form), encoding="utf-8")
    key = None if whole else "a"
    found = {}
    for name, batch in stream_arrays(
        path, chunk, {key: {"points": (1, True), "outline": (2, True)}}
    ):
        found.setdefault(name, []).extend(batch)
    for element in found[key]:
        for name, depth in (("points", 1), ("outline", 2)):
            if type(element.get(name)) is bytes:
                element[name] = json.loads(b"[" * depth + element[name] + b"]" * depth)
    assert found == ({None: elements} if whole else value)


def test_lists_of_numbers_are_lifted(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [{"points": [0, 0, 1], "x": 1}, {"points": []}, {"points": [2]}]}')
    found = [
        e for _, batch in stream_arrays(path, lift={"a": {"points": (1, True)}}) for e in batch
    ]
    assert [element["points"] for element in found] == [b"0, 0, 1", b"", b"2"]


def test_what_is_wrong_behind_the_first_batches_is_found_once(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"i": i} for i in range(50)])[:-1] + ", oops]")
    seen = []

    def read():
        for _, batch in stream_arrays(path, 64):
            seen.extend(element["i"] for element in batch)

    with pytest.raises(ValueError, match="near byte"):
        read()
    assert seen == list(range(len(seen)))
    assert len(seen) > 40


def test_lists_that_nobody_wants_are_passed_over(tmp_path):
    path = tmp_path / "a.json"
    elements = [{"points": [[i, 2], [3]], "id": i} for i in range(5)] + [{"points": [["]]"]]}]
    path.write_text(json.dumps({"a": elements, "b": [{"points": [[1]]}]}))
    found: dict[str | None, list[object]] = {}
    for key, batch in stream_arrays(path, lift={"a": {"points": (2, False)}}):
        found.setdefault(key, []).extend(batch)
    assert [element.get("id") for element in found["a"]] == [0, 1, 2, 3, 4, None]
    assert found["b"] == [{"points": [[1]]}]
