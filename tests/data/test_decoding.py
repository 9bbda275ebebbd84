import io

import numpy as np
import pytest
from PIL import Image

from match_rcnn.data.decoding import DECODERS, UnreadableImageError, read_stored_image


def photo(height, width, mode="RGB", seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (2 + height // 9, 2 + width // 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height)).convert(mode)


def read_both(path):
    return [read_stored_image(str(path), "BGR", decoder) for decoder in DECODERS]


@pytest.mark.parametrize("size", [(1, 1), (8, 9), (97, 130)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("quality", [40, 90, 100])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])  # 4:4:4, 4:2:2, 4:2:0
def test_decoders_give_the_same_pixels(tmp_path, size, mode, quality, progressive, subsampling):
    options = {"quality": quality, "progressive": progressive}
    if mode == "RGB":
        options["subsampling"] = subsampling
    photo(*size, mode, seed=quality).save(tmp_path / "a.jpg", **options)
    first, second = read_both(tmp_path / "a.jpg")
    assert first.shape == (*size, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("RGBA", "png"), ("P", "png")])
def test_other_files_are_pils(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    photo(20, 30).convert(mode).save(path)
    first, second = read_both(path)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("decoder", DECODERS)
def test_exif_orientation_is_not_applied(tmp_path, decoder):
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(20, 30).save(tmp_path / "a.jpg", exif=turned)
    assert read_stored_image(str(tmp_path / "a.jpg"), "BGR", decoder).shape == (20, 30, 3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_file_that_was_cut_off_is_refused(tmp_path, decoder):
    buffer = io.BytesIO()
    photo(97, 130).save(buffer, "JPEG", quality=90)
    whole = buffer.getvalue()
    path = tmp_path / "a.jpg"
    for length in (0, 3, 200, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableImageError, match=r"a\.jpg"):
            read_stored_image(str(path), "BGR", decoder)


def test_an_unknown_decoder_is_named(tmp_path):
    with pytest.raises(ValueError, match="'opencv' or 'pil', got 'turbo'"):
        read_stored_image(str(tmp_path / "a.jpg"), "BGR", "turbo")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_stored_image(str(tmp_path / "none.jpg"), "BGR")
