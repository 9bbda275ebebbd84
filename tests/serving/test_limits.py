"""What strangers may send: answers from 400 on with a sentence, and the service lives."""

import io
import socket
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from match_rcnn.serving.app import Metrics, build_app
from match_rcnn.serving.limits import Limits, Refused, decode_photo
from match_rcnn.serving.service import Service

PNG = {"content-type": "image/png"}
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_of(width, height):
    """A PNG of one colour, a bit a pixel: 100 megapixels take some 12 KB."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    )


def webp_header(width, height):
    """The beginning of an extended WebP that says this size, with nothing behind."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x00\x01\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + size + bytes(200)


NOISE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
PICTURE = Image.fromarray(NOISE).resize((80, 60))
MOVING = [PICTURE, PICTURE.rotate(90), PICTURE.rotate(180)]
ANIMATED = {"save_all": True, "append_images": MOVING[1:]}
JPEG = encoded(PICTURE, "JPEG")
BOMB = png_of(10000, 10000)

HOSTILE = [
    ("50 MB", bytes(50 << 20), 413, "larger than"),
    ("100 megapixels", BOMB, 413, "pixels"),
    ("10 gigapixels", webp_header(1 << 14, 1 << 14), 413, "pixels"),
    ("so many that Pillow refuses", png_of(1 << 19, 700), 413, "pixels"),
    ("cut off", JPEG[: len(JPEG) // 2], 400, "cannot read"),
    ("a PNG cut off", encoded(PICTURE, "PNG")[:900], 400, "cannot read"),
    ("a header alone", JPEG[:20], 415, "no JPEG"),
    ("an animated WebP", encoded(PICTURE, "WEBP", **ANIMATED), 415, "animated"),
    ("an animated PNG", encoded(PICTURE, "PNG", **ANIMATED), 415, "animated"),
    ("an animated GIF", encoded(PICTURE, "GIF", **ANIMATED), 415, "no JPEG"),
    ("TIFF", encoded(PICTURE, "TIFF"), 415, "no JPEG"),
    ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "no JPEG"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "no JPEG"),
    ("text", b"hello", 415, "no JPEG"),
    ("nothing", b"", 400, "empty"),
    ("a line", encoded(Image.new("RGB", (2000, 1)), "PNG"), 400, "crop it"),
]


@pytest.mark.parametrize(
    ("data", "status", "words"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE]
)
def test_a_hostile_photo_is_refused_with_a_sentence(serving, data, status, words):
    client = serving()
    answer = client.post("/predict", content=data, headers=PNG)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}


def test_the_bombs_are_small_and_never_unpacked():
    """By their headers alone: a decoder would fail on these, or take their gigabytes."""
    assert len(BOMB) < 100_000
    for data in (BOMB[:100] + b"broken", webp_header(1 << 14, 1 << 14)):
        with pytest.raises(Refused, match="pixels"):
            decode_photo(data, Limits())


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webps_size_is_known_before_pillow_opens_it(lossless):
    data = encoded(PICTURE, "WEBP", lossless=lossless)
    assert decode_photo(data, Limits(max_pixels=4800)).shape == (60, 80, 3)
    with pytest.raises(Refused, match="pixels"):
        decode_photo(data, Limits(max_pixels=4799))


def test_a_photo_is_seen_as_its_exif_data_say():
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(PICTURE, "JPEG", exif=turned, quality=95)
    upright = np.asarray(PICTURE.rotate(-90, expand=True))[:, :, ::-1]
    assert np.abs(decode_photo(data, Limits()).astype(int) - upright).mean() < 5
    assert decode_photo(data, Limits()).shape == (80, 60, 3)


def test_a_cameras_jpeg_with_a_preview_passes():
    data = encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE.resize((20, 15))])
    assert decode_photo(data, Limits()).shape == (60, 80, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16", "CMYK"])
def test_other_colours_pass(mode):
    image = PICTURE.convert("L").convert("I;16") if mode == "I;16" else PICTURE.convert(mode)
    data = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    assert decode_photo(data, Limits()).shape == (60, 80, 3)


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/html", ""])
def test_other_bodies_are_refused(serving, kind):
    answer = serving().post("/predict", content=JPEG, headers={"content-type": kind})
    assert (answer.status_code, "body" in answer.json()["error"]) == (415, True)


def test_no_word_of_a_client_is_stored_or_logged(
    serving, gallery, tmp_path_factory, monkeypatch, caplog, capfd
):
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.chdir(folder)
    caplog.set_level(0)
    client = serving(gallery)
    secret = "my-secret-word"
    headers = {**PNG, "content-disposition": f'filename="<b>{secret}.png"', "user-agent": secret}
    large = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (900, 900, 3)))[1]
    assert len(large) > 2 << 20
    for path in (f"/predict?name={secret}", f"/search?name={secret}", f"/{secret}"):
        for data in (large.tobytes(), secret.encode()):
            answer = client.post(path, content=data, headers=headers)
            assert secret not in answer.text + str(answer.headers)
    assert list(folder.iterdir()) == []
    logged = [r.getMessage() for r in caplog.records if not r.name.startswith("httpx")]
    assert not any(secret in line for line in logged)
    assert secret not in "".join(capfd.readouterr())


def test_more_requests_than_may_wait_are_told_so(serving, predictor):
    service = Service(predictor, limits=Limits(max_waiting=1))
    with service.entered(), pytest.raises(Refused, match="try again") as refused, service.entered():
        pass
    assert refused.value.status == 503
    assert service.waiting == 0
    service.close()


@pytest.fixture
def port(predictor, listening):
    limits = Limits(timeout=1, max_bytes=1 << 20)
    service = Service(predictor, limits=limits)
    with listening(build_app(service, Metrics()), limits) as port:
        yield port
    service.close()


def talk(port, *parts, pause=0.0):
    """All that comes back, after parts with pauses; until the service closes, or 10 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        received = b""
        while part := client.recv(1 << 16):
            received += part
        return received


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


class TestSlowClients:
    def test_who_says_nothing_is_dropped(self, port):
        assert talk(port, b"", pause=0.01) == b""

    def test_who_never_ends_the_headers_is_dropped(self, port):
        assert talk(port, HEAD, b"X-A: b\r\n", pause=0.3) == b""

    def test_who_never_ends_the_body_is_told_so_and_dropped(self, port):
        answer = talk(port, HEAD + b"Content-Length: 1000\r\n\r\n", b"x", b"y", pause=0.2)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"longer than 1 seconds" in answer

    def test_who_sends_without_an_end_is_stopped(self, port):
        def send_on(client):
            for _ in range(2000):
                client.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                time.sleep(0.005)

        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            with pytest.raises(OSError):  # the connection is gone
                send_on(client)

    def test_the_others_are_answered_meanwhile(self, port):
        idle = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
        answer = talk(port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        for client in idle:
            assert client.recv(1) == b""
            client.close()
