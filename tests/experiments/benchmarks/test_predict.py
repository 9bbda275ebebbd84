import orjson

from match_rcnn.experiments.benchmarks.predict import differences


def lines(path, *photos):
    rows = [{"image": str(i), "garments": garments} for i, garments in enumerate(photos)]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def garment(category="vest", box=(0, 0, 9, 9), landmarks=((1, 1, 0.5), (2, 2, 0.5))):
    return {"category": category, "box": box, "landmarks": landmarks}


def test_what_differs_is_counted(tmp_path):
    one = lines(tmp_path / "one", [garment()], [garment(), garment()])
    assert differences(one, one) == {"garments": 0, "count": 3, "box": 0, "landmarks": 0}
    moved = garment(box=(0, 0, 9, 9.5), landmarks=((1, 1, 0.4), (2, 3, 0.5)))
    other = lines(tmp_path / "other", [moved], [garment("skirt"), garment()])
    found = differences(one, other)
    assert (found["garments"], found["count"], found["box"]) == (1, 1, 0.5)
    assert found["landmarks"] > 0
    assert differences(one, lines(tmp_path / "less", [garment()]))["garments"] == 1
