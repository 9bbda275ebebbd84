import pytest

from match_rcnn.data.image_size import UnreadableImageError
from match_rcnn.data.pairs import PairedStream, PairIndex
from match_rcnn.data.readable import ReadableSamples, TooManyUnreadableError
from match_rcnn.data.streams import ShuffledStream


def items(n):
    """Even images are user photos, odd ones shop photos; 2k and 2k + 1 show product k."""
    return [
        {
            "file_name": f"{i}.jpg",
            "source": ("user", "shop")[i % 2],
            "pair_id": i // 2,
            "annotations": [{"style": 1}],
        }
        for i in range(n)
    ]


def mapper_without(*broken):
    def read(item):
        if item["file_name"] in broken:
            raise UnreadableImageError(f"cannot read image {item['file_name']}")
        return dict(item)

    return read


def names(samples):
    return [sample["file_name"] for sample in samples]


def test_readable_images_come_as_they_are():
    stream = ShuffledStream(items(6), seed=1)
    samples = ReadableSamples(stream, mapper_without())
    assert names(samples.__getitems__(range(6))) == [stream[p]["file_name"] for p in range(6)]
    assert samples[4] == stream[4]
    assert len(samples) == 6


def test_an_unreadable_image_is_replaced_by_the_same_one_every_time_and_named():
    stream = ShuffledStream(items(6), seed=1)
    broken = stream[2]["file_name"]
    samples = ReadableSamples(stream, mapper_without(broken))
    batch = samples.__getitems__([1, 2, 3])
    assert names(batch)[0::2] == [stream[1]["file_name"], stream[3]["file_name"]]
    assert batch[1]["file_name"] != broken
    assert batch[1]["unreadable"][0] == {
        "file_name": broken,
        "error": f"cannot read image {broken}",
    }
    assert [("unreadable" in sample) for sample in batch] == [False, True, False]
    again = ReadableSamples(ShuffledStream(items(6), seed=1), mapper_without(broken))
    assert again[2] == batch[1]


@pytest.mark.parametrize("side", [0, 1])
def test_a_broken_half_replaces_its_pair_by_another_whole_pair(side):
    data = items(12)
    stream = PairedStream(ShuffledStream(data, seed=2), PairIndex(data))
    broken = stream[3 * 4 + 1 + side]["file_name"]
    samples = ReadableSamples(stream, mapper_without(broken))
    user, shop, single = samples.__getitems__([13, 14, 15])
    assert broken not in (user["file_name"], shop["file_name"])
    assert (user["source"], shop["source"]) == ("user", "shop")
    assert user["pair_id"] == shop["pair_id"]
    assert single["file_name"] == stream[15]["file_name"]
    assert {found["file_name"] for found in user["unreadable"]} == {broken}


def test_a_broken_image_alone_is_replaced_alone_in_a_stream_of_pairs():
    data = items(12)
    stream = PairedStream(ShuffledStream(data, seed=2), PairIndex(data))
    broken = stream[15]["file_name"]
    user, shop, single = ReadableSamples(stream, mapper_without(broken)).__getitems__([13, 14, 15])
    pair = stream[13]["file_name"], stream[14]["file_name"]
    if broken not in pair:
        assert names([user, shop]) == list(pair)
    assert single["file_name"] != broken


def test_the_two_of_a_pair_are_a_unit():
    data = items(4)
    stream = PairedStream(ShuffledStream(data, seed=2), PairIndex(data))
    assert stream.units([1, 2, 4, 5, 9, 0]) == [[1, 2], [4, 5], [9], [0]]


def test_when_nothing_can_be_read_the_last_file_and_its_error_are_named():
    def read(item):
        raise FileNotFoundError(2, "No such file or directory", item["file_name"])

    samples = ReadableSamples(ShuffledStream(items(6), seed=1), read)
    with pytest.raises(TooManyUnreadableError, match=r"10 images .*\d.jpg \(.*No such file"):
        samples[0]


def test_a_bug_in_the_mapper_is_not_an_unreadable_image():
    def read(item):
        raise ValueError("expected 25 landmarks")

    with pytest.raises(ValueError, match="expected 25 landmarks"):
        ReadableSamples(ShuffledStream(items(6), seed=1), read)[0]
