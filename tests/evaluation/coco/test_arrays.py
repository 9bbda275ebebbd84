import numpy as np

from match_rcnn.utils.columns import find, join, joint_codes


def test_find():
    known = np.array([2, 5, 9])
    assert find(known, np.array([5, 1, 9, 10, 2])).tolist() == [1, -1, 2, -1, 0]
    assert find(known[:0], np.array([5])).tolist() == [-1]
    assert find(known, known[:0]).tolist() == []


def test_join_is_every_pair_of_equal_values():
    asked, known = join(np.array([1, 3, 3, 8]), np.array([3, 2, 8, 3]))
    assert list(zip(asked.tolist(), known.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (2, 3),
        (3, 1),
        (3, 2),
    ]


def test_joint_codes_are_equal_where_rows_are():
    known = np.array([1, 1, 2]), np.array([5, 6, 5])
    asked = np.array([2, 1, 2, 9, 1]), np.array([5, 6, 6, 5, 9])
    codes, wanted = joint_codes(known, asked)
    assert len(set(codes.tolist())) == 3
    assert wanted[:2].tolist() == [codes[2], codes[1]]
    assert wanted[2] not in codes
    assert wanted[3:].tolist() == [-1, -1]
