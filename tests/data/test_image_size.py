import pytest
from PIL import Image

from match_rcnn.data import image_size
from match_rcnn.data.image_size import (
    TruncatedImageError,
    UnreadableImageError,
    read_image_size,
)


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
