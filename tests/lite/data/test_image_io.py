from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from match_rcnn.lite.data.detection_utils import (
    SizeMismatchError,
    check_image_size,
    read_image,
)

# Orientation tag -> what a viewer does to the stored pixels (EXIF 2.32, table of tag 274).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
    9: lambda a: a,  # no such value
}


class TestReadImage:
    @pytest.mark.parametrize("tag", UPRIGHT)
    @pytest.mark.parametrize("kind", ["png", "tiff"])  # PIL turns tiff files by itself
    def test_exif_orientation(self, tmp_path: Path, tag: int, kind: str) -> None:
        stored = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
        exif = Image.Exif()
        exif[274] = tag
        path = tmp_path / f"image.{kind}"
        Image.fromarray(stored).save(path, exif=exif)
        np.testing.assert_array_equal(read_image(path, "RGB"), UPRIGHT[tag](stored))

    def test_damaged_exif_is_ignored(self, tmp_path: Path) -> None:
        path = tmp_path / "image.jpg"
        Image.new("RGB", (6, 4), "red").save(path, exif=b"Exif\0\0MM\0garbage")
        assert read_image(path, "RGB").shape == (4, 6, 3)

    def test_formats(self, gradient: tuple[str, np.ndarray]) -> None:
        path, rgb = gradient
        np.testing.assert_array_equal(read_image(path), rgb)
        np.testing.assert_array_equal(read_image(path, "RGB"), rgb)
        np.testing.assert_array_equal(read_image(path, "BGR"), rgb[..., ::-1])
        luma = np.array(Image.fromarray(rgb).convert("L"))[..., None]
        np.testing.assert_array_equal(read_image(path, "L"), luma)

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
    def test_every_mode_becomes_three_channels(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / f"image.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
        image = read_image(path, "BGR")
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.full((4, 6, 3), 255))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
            read_image(tmp_path / "none.jpg")

    @pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"])
    def test_no_image(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "broken.png"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read image .*broken\.png: "):
            read_image(path, "BGR")

    @pytest.mark.parametrize("kind", ["jpg", "png"])
    def test_truncated_image(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / f"cut.{kind}"
        noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ValueError, match=rf"cannot read image .*cut\.{kind}: "):
            read_image(path, "BGR")


class TestCheckImageSize:
    def test_fills_in(self) -> None:
        dataset_dict: dict[str, int] = {}
        check_image_size(dataset_dict, np.zeros((4, 6, 3)))
        assert dataset_dict == {"width": 6, "height": 4}

    def test_accepts_the_right_size(self) -> None:
        check_image_size({"width": 6, "height": 4}, np.zeros((4, 6)))

    def test_mismatch_names_the_file(self) -> None:
        stated = {"width": 4, "height": 6, "file_name": "a/b.jpg"}
        message = r"a/b\.jpg: the annotation's height is 6, the image's 4"
        with pytest.raises(SizeMismatchError, match=message):
            check_image_size(stated, np.zeros((4, 6, 3)))
