import pytest

from match_rcnn.data.folders import list_folder
from match_rcnn.data.image_size import IMAGE_SUFFIXES


@pytest.fixture
def listed(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).touch()
        return list_folder(tmp_path, IMAGE_SUFFIXES, "train/image")

    return make


def test_sorted_by_number(listed):
    folder = listed("000010.jpg", "000002.jpg", "1000000.jpg", "000001.jpg")
    assert folder.numbers.tolist() == [1, 2, 10, 1_000_000]
    assert [folder.name(n) for n in (1, 1_000_000)] == ["000001.jpg", "1000000.jpg"]
    assert folder.problems == []
    assert folder.names == {}


def test_other_spellings_of_numbers_are_kept(listed):
    folder = listed("7.jpg", "000008.JPG", "0000009.png", "000010.jpeg")
    assert folder.numbers.tolist() == [7, 8, 9, 10]
    names = [folder.name(n) for n in folder.numbers.tolist()]
    assert names == ["7.jpg", "000008.JPG", "0000009.png", "000010.jpeg"]


def test_a_missing_number_has_the_usual_name(listed):
    assert listed().name(123) == "000123.jpg"


def test_other_files_are_passed_over(listed):
    folder = listed("000001.jpg", "README.md", ".hidden.jpg", "._000001.jpg", "000002.txt")
    assert folder.numbers.tolist() == [1]
    assert folder.problems == []


def test_names_that_are_no_number_are_reported(listed):
    folder = listed("cover.jpg", "000001.jpg", "12a.jpg", "²3.jpg", "9" * 30 + ".jpg")
    assert folder.numbers.tolist() == [1]
    assert [p.file for p in folder.problems] == [
        "train/image/12a.jpg",
        f"train/image/{'9' * 30}.jpg",
        "train/image/cover.jpg",
        "train/image/²3.jpg",
    ]
    assert folder.problems[2].detail == "expected a number as name, got 'cover.jpg'"


def test_second_file_of_a_number_is_reported(listed):
    folder = listed("000001.jpg", "1.jpg", "2.jpg", "02.jpg")
    assert folder.numbers.tolist() == [1, 2]
    assert (folder.name(1), folder.name(2)) == ("000001.jpg", "02.jpg")
    assert [p.file for p in folder.problems] == ["train/image/1.jpg", "train/image/2.jpg"]


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ROOT/SPLIT/image/000001\.jpg"):
        list_folder(tmp_path / "none", IMAGE_SUFFIXES, "train/image")
