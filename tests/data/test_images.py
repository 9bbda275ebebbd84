import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from match_rcnn.data import image_size
from match_rcnn.data.images import (
    DECODERS,
    TruncatedImageError,
    UnreadableImageError,
    read_image,
    read_image_size,
    write_image,
)


def photo(height, width, mode="RGB", seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (2 + height // 9, 2 + width // 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height)).convert(mode)


def read_both(path):
    return [read_image(path, upright=False, decoder=decoder) for decoder in DECODERS]


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


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_stored_and_upright_pixels(tmp_path, decoder, orientation, suffix):
    path = tmp_path / f"a.{suffix}"
    photo(20, 30).save(path, exif=turned(orientation))
    stored = read_image(path, upright=False, decoder=decoder)
    upright = read_image(path, upright=True, decoder=decoder)
    with Image.open(path) as image:
        assert np.array_equal(stored[:, :, ::-1], np.asarray(image.convert("RGB")))
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(upright[:, :, ::-1], expected)
    assert upright.flags.c_contiguous


def test_damaged_exif_data_say_nothing(tmp_path):
    photo(20, 30).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\0broken")
    assert read_image(tmp_path / "a.jpg", upright=True).shape == (20, 30, 3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_file_that_was_cut_off_is_refused(tmp_path, decoder):
    buffer = io.BytesIO()
    photo(97, 130).save(buffer, "JPEG", quality=90)
    whole = buffer.getvalue()
    path = tmp_path / "a.jpg"
    for length in (0, 3, 200, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableImageError, match=r"a\.jpg"):
            read_image(path, upright=False, decoder=decoder)


def test_an_unknown_decoder_is_named(tmp_path):
    with pytest.raises(ValueError, match="'opencv' or 'pil', got 'turbo'"):
        read_image(tmp_path / "a.jpg", upright=False, decoder="turbo")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.jpg", upright=False)


@pytest.fixture
def written(tmp_path):
    def write(data):
        path = tmp_path / "image.jpg"
        path.write_bytes(data)
        return path

    return write


def oriented(orientation, padding=0):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "x" * padding
    return exif


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "grey": {"mode": "L"},
    "four colours": {"mode": "CMYK"},
    "restart markers": {"restart_marker_blocks": 1},
    "turned by EXIF: the stored size counts": {"exif": oriented(6)},
    "long EXIF before the frame header": {"exif": oriented(1, padding=20_000)},
    "colour profile over several segments": {"icc_profile": b"p" * 200_000},
    "comment": {"comment": b"made by hand"},
}


class TestJpegHeader:
    @pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS.keys())
    def test_without_pillow(self, written, encode_image, options, monkeypatch):
        path = written(encode_image((37, 91), **options))
        with Image.open(path) as image:
            assert image.size == (37, 91)
        monkeypatch.setattr(image_size, "_size_by_pillow", None)  # calling it would fail
        assert read_image_size(path) == (37, 91)

    @pytest.mark.parametrize("at", [4096 - 12 - k for k in range(-2, 14)])
    def test_frame_header_at_the_edge_of_the_first_read(self, written, encode_image, at):
        jpeg = encode_image((37, 91))
        padding = b"\xff\xfe" + (at - 4).to_bytes(2, "big") + b"c" * (at - 6)
        assert read_image_size(written(jpeg[:2] + padding + jpeg[2:])) == (37, 91)

    def test_fill_bytes_before_a_marker(self, written, encode_image):
        jpeg = encode_image((37, 91))
        assert read_image_size(written(jpeg[:2] + b"\xff\xff" + jpeg[2:])) == (37, 91)

    def test_size_in_the_frame_header_is_big_endian(self, written):
        frame = b"\xff\xc0\x00\x0b\x08\x01\x02\x03\x04\x01\x01\x11\x00"
        assert read_image_size(written(b"\xff\xd8" + frame + b"\xff\xd9")) == (0x304, 0x102)


class TestOtherFiles:
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
    def test_other_formats(self, written, encode_image, kind):
        assert read_image_size(written(encode_image((37, 91), kind=kind))) == (37, 91)

    def test_whole_png_is_not_decoded(self, written, encode_image, monkeypatch):
        path = written(encode_image((37, 91), kind="PNG"))
        monkeypatch.setattr(Image.Image, "load", None)
        assert read_image_size(path) == (37, 91)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_image_size(tmp_path / "none.jpg")

    @pytest.mark.parametrize(
        "data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"not an image", b"\xff" * 5000]
    )
    def test_no_image(self, written, data):
        with pytest.raises(UnreadableImageError, match="expected an image"):
            read_image_size(written(data))


class TestTruncation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    @pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
    def test_image_that_ends_early(self, written, encode_image, kind, share):
        data = encode_image((200, 300), kind=kind)
        with pytest.raises(TruncatedImageError, match="expected a whole image"):
            read_image_size(written(data[: int(share * len(data))]))

    def test_bytes_after_the_end_do_no_harm(self, written, encode_image):
        assert read_image_size(written(encode_image((37, 91)) + b"\0" * 10)) == (37, 91)

    def test_agrees_with_decoding_wherever_it_is_cut(self, written, encode_image):
        data = encode_image((64, 48))
        for length in range(0, len(data), 7):
            path = written(data[:length])
            try:
                with Image.open(path) as image:
                    image.load()
            except Exception:
                with pytest.raises(UnreadableImageError):
                    read_image_size(path)
            else:
                assert read_image_size(path) == (64, 48)


class TestWriting:
    @pytest.mark.parametrize("suffix", [".png", ".BMP", ".tiff"])
    def test_round_trip(self, tmp_path, suffix):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        write_image(tmp_path / f"a{suffix}", pixels)
        assert np.array_equal(read_image(tmp_path / f"a{suffix}", upright=True), pixels)

    def test_a_name_that_is_no_images(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.jpg, .*got .*a\.txt"):
            write_image(tmp_path / "a.txt", np.zeros((2, 2, 3), np.uint8))
        assert list(tmp_path.iterdir()) == []
