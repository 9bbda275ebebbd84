import cv2
import numpy as np
import pytest

from match_rcnn.inference.pictures import Source, draw_sources

SHADES = (20, 120, 220)


def sources_of(tmp_path, *names):
    """An image of one shade a name, without garments."""
    made = []
    for name, shade in zip(names, SHADES, strict=False):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # The last suffix decides about the format.
        cv2.imwrite(str(path), np.full((8, 8, 3), shade, np.uint8))
        made.append(Source(path, False, lambda image: []))
    return made


@pytest.mark.parametrize(
    ("names", "pictures"),
    [
        (["x.jpg", "y.png"], ["x.jpg", "y.jpg"]),
        (["x.webp", "x.bmp", "x.tiff"], ["x.webp.jpg", "x.bmp.jpg", "x.tiff.jpg"]),
        (["x.png", "x.webp", "x.webp.jpg"], ["x.png.jpg", "x.webp.jpg", "x.webp.jpg.jpg"]),
        (["a/x.png", "b/x.png", "b/y.png"], ["a/x.jpg", "b/x.jpg", "b/y.jpg"]),
        (["x.png", "X.bmp"], ["x.png.jpg", "X.bmp.jpg"]),  # one name on some file systems
        (["a/x.png"], ["x.jpg"]),
    ],
)
def test_no_picture_takes_the_place_of_another(tmp_path, names, pictures):
    report = draw_sources(sources_of(tmp_path, *names), tmp_path / "out")
    assert report.drawn == len(names)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): round(cv2.imread(str(path)).mean())
        for path in (tmp_path / "out").rglob("*.jpg")
    }
    assert found == pytest.approx(dict(zip(pictures, SHADES, strict=False)), abs=2)


def test_the_same_image_twice(tmp_path):
    (source,) = sources_of(tmp_path, "x.png")
    assert draw_sources([source, source], tmp_path / "out").drawn == 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"x.png.jpg", "x.png-2.jpg"}


def test_no_picture_takes_the_place_of_an_image(tmp_path):
    sources = sources_of(tmp_path, "x.jpg", "y.png")
    before = (tmp_path / "in" / "x.jpg").read_bytes()
    with pytest.raises(ValueError, match=r"overwrite 1 of the images, .*x.jpg .* another --output"):
        draw_sources(sources, tmp_path / "in")
    assert (tmp_path / "in" / "x.jpg").read_bytes() == before
    assert not (tmp_path / "in" / "y.jpg").exists()


def test_unreadable_images_are_told(tmp_path):
    (source,) = sources_of(tmp_path, "x.png")
    broken = tmp_path / "in" / "broken.png"
    broken.write_bytes(b"no image")
    report = draw_sources([Source(broken, False, lambda image: []), source], tmp_path / "out")
    assert (report.drawn, len(report.problems)) == (1, 1)
    assert "broken.png" in report.problems[0]
    assert "1 images left out" in str(report)


def test_nothing_to_draw(tmp_path):
    assert draw_sources([], tmp_path / "out").drawn == 0
