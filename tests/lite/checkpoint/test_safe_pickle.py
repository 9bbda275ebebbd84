import contextlib
import io
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from match_rcnn.lite.checkpoint.safe_pickle import load_arrays


def loads(data):
    return load_arrays(io.BytesIO(data))


ARRAYS = hnp.arrays(
    dtype=st.sampled_from(["f4", "<f8", ">f4", "f2", "i8", ">i4", "u1", "bool", "c8", "S3", "U2"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    elements={"allow_nan": False},
)


@given(array=ARRAYS, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), fortran=st.booleans())
def test_arrays_round_trip(array, protocol, fortran):
    array = np.asfortranarray(array) if fortran else array
    loaded = loads(pickle.dumps(array, protocol))
    assert type(loaded) is np.ndarray
    assert loaded.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded, array)


def test_containers_and_scalars_round_trip():
    data = OrderedDict(
        a=[1, 2.5, None, True],
        b=("text", b"bytes", 3),
        c={"nested": {"weight": np.ones((2, 3), np.float32)}},
        d=np.float64(0.25),
    )
    loaded = loads(pickle.dumps(data))
    assert type(loaded) is OrderedDict
    assert loaded["a"] == data["a"]
    assert loaded["b"] == data["b"]
    assert loaded["c"]["nested"]["weight"].tolist() == [[1.0] * 3] * 2
    assert loaded["d"] == 0.25


def test_arrays_can_be_written_to():
    loaded = loads(pickle.dumps(np.zeros(2)))
    loaded[0] = 1.0
    assert loaded.tolist() == [1.0, 0.0]


def test_python_2_pickle():
    # As Python 2 wrote {"w": array([1., 2.], float32)}: the bytes are a latin-1 string.
    data = (
        b"(dp0\nS'w'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\n"
        b"tp4\nS'b'\np5\ntp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\n"
        b"Rp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
        b"S'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np15\ntp16\nbs."
    )
    loaded = loads(data)
    assert loaded["w"].dtype == np.float32
    assert loaded["w"].tolist() == [1.0, 2.0]


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Evil(os.mkdir, "made_by_pickle"), "mkdir"),
        (Evil(eval, "1 + 1"), "eval"),
        (Evil(np.load, "file.npy"), "load"),
        (np.array([{}], dtype=object), "object"),
        (np.zeros(2, dtype=[("a", "f4"), ("b", "O")]), "V12|a"),
        (ValueError("an exception is no weight"), "ValueError"),
        ({1, 2}, "set|other things"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_anything_else_is_refused(tmp_path, monkeypatch, value, named, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=named):
        loads(pickle.dumps({"weight": value}, protocol))
    assert not list(tmp_path.iterdir())


@given(cut=st.integers(0, 100), flip=st.integers(0, 100), bit=st.integers(0, 7))
def test_damage_never_escapes_as_another_error(cut, flip, bit):
    data = bytearray(pickle.dumps({"w": np.arange(4.0)}, protocol=2))
    data[flip] ^= 1 << bit
    for damaged in (bytes(data), bytes(data[:cut])):
        with contextlib.suppress(pickle.UnpicklingError):
            loads(damaged)


def shared(open_inner, levels=200):
    """A pickle whose innermost part is in it 2 ** levels times, written once."""
    return b"\x80\x02" + open_inner + b"q\x00" + b"h\x00h\x00\x86q\x00" * levels + b"."


@pytest.mark.parametrize("inner", [b"]", b"}", b")", b"N"])
def test_what_is_shared_is_read_once(inner):
    pair = loads(shared(inner))
    for _ in range(199):
        assert pair[0] is pair[1]
        pair = pair[0]


def test_shared_lists_and_arrays():
    array = np.arange(3.0)
    inner = part = [array, array]
    for _ in range(200):
        part = [part, {"again": part}]
    loaded = loads(pickle.dumps(part))
    for _ in range(200):
        assert loaded[0] is loaded[1]["again"]
        loaded = loaded[0]
    assert loaded[0] is loaded[1]
    np.testing.assert_array_equal(loaded[0], inner[0])


def test_parts_of_themselves():
    around = [1]
    around.append({"again": around})
    loaded = loads(pickle.dumps(around))
    assert loaded[1]["again"] is loaded


# With ordinary dicts and sets, Python would hash each of these 2 ** 200 times.
KEYS = {
    "SETITEM": b"}" + shared(b")")[2:-1] + b"Ns.",
    "SETITEMS": b"}(" + shared(b")")[2:-1] + b"Nu.",
    "DICT": b"(" + shared(b")")[2:-1] + b"Nd.",
    "OrderedDict": b"ccollections\nOrderedDict\n]" + shared(b")")[2:-1] + b"N\x86a\x85R.",
    "ADDITEMS": b"\x8f(" + shared(b")")[2:-1] + b"\x90.",
    "FROZENSET": b"(" + shared(b")")[2:-1] + b"\x91.",
    "dtype": b"cnumpy\ndtype\n" + shared(b")")[2:-1] + b"\x85R.",
    "encode": b"c_codecs\nencode\n" + shared(b")")[2:-1] + b"U\x06latin1\x86R.",
    "encoding": b"c_codecs\nencode\nU\x01a" + shared(b")")[2:-1] + b"\x86R.",
}


@pytest.mark.parametrize("data", KEYS.values(), ids=KEYS)
def test_tuples_of_tuples_are_neither_hashed_nor_printed(data):
    with pytest.raises(pickle.UnpicklingError) as raised:
        loads(b"\x80\x04" + data)
    assert len(str(raised.value)) < 200


def test_no_more_bytes_than_the_file_has():
    text = b"X" + (10_000).to_bytes(4, "little") + b"a" * 10_000 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00U\x06latin1\x86R" * 100
    with pytest.raises(pickle.UnpicklingError, match="more bytes than it has"):
        loads(b"\x80\x02(" + text + again + b"l.")
    zeros = b"c__builtin__\nbytes\nJ" + (2**30).to_bytes(4, "little") + b"\x85R."
    with pytest.raises(pickle.UnpicklingError, match="bytes are made of something else"):
        loads(b"\x80\x02" + zeros)


@pytest.mark.parametrize(
    ("shared_part", "call"),
    [
        (b"(" + b"N" * 100_000 + b"t", b"cnumpy\nndarray\nh\x00R"),
        (b"(" + b")" * 100_000 + b"l", b"ccollections\nOrderedDict\nh\x00\x85R"),
        (b"U\xff" + b"4" * 255, b"cnumpy\ndtype\nh\x00\x85R"),
    ],
)
def test_large_arguments_are_not_taken_again_and_again(shared_part, call):
    with pytest.raises(pickle.UnpicklingError):
        loads(b"\x80\x02(" + shared_part + b"q\x00" + call * 100_000 + b"l.")


def test_the_budget_is_enough_for_any_protocol():
    arrays = {str(i): np.full(1000, i, ">f8") for i in range(3)}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = loads(pickle.dumps(arrays, protocol))
        assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
