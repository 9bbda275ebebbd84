import cv2
import numpy as np
import pytest

from match_rcnn.lite.utils.vis_image import VisImage, to_rgb

SQUARE = np.array([[4.0, 3], [10, 3], [10, 8], [4, 8]])


@pytest.fixture
def black():
    return VisImage(np.zeros((12, 16, 3)))


class TestColors:
    @pytest.mark.parametrize(
        ("color", "rgb"),
        [
            ((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)),
            (np.array([1.0, 0, 0, 0.5]), (1, 0, 0)),  # alpha is the drawing's
            ("g", (0, 0.5, 0)),
            ("k", (0, 0, 0)),
            ("red", (1, 0, 0)),
            ("#00ff00", (0, 1, 0)),
        ],
    )
    def test_accepted(self, color, rgb):
        assert to_rgb(color) == pytest.approx(rgb)

    @pytest.mark.parametrize("color", [(0, 0, 255), (0.5, 0.5), "no colour", (float("nan"),) * 3])
    def test_refused(self, color):
        with pytest.raises(ValueError, match=r"colou?r"):
            to_rgb(color)


class TestCanvas:
    def test_the_image_is_copied(self):
        image = np.full((4, 6, 3), 7, dtype=np.uint8)
        vis = VisImage(image)
        vis.fill([SQUARE], "w", 1.0)
        assert (image == 7).all()
        assert (vis.width, vis.height) == (6, 4)

    @pytest.mark.parametrize(("scale", "size"), [(1.0, (10, 7)), (2.5, (25, 17)), (0.5, (5, 3))])
    def test_scale(self, scale, size):
        vis = VisImage(np.zeros((7, 10, 3), dtype=np.uint8), scale=scale)
        assert vis.get_image().shape == (size[1], size[0], 3)
        assert (vis.width, vis.height) == (10, 7)

    def test_no_picture(self):
        with pytest.raises(ValueError, match=r"\(4, 6\)"):
            VisImage(np.zeros((4, 6)))

    def test_save(self, black, tmp_path):
        black.fill([SQUARE], "r", 1.0)
        black.save(tmp_path / "a.png")
        # OpenCV reads blue first.
        assert (cv2.imread(str(tmp_path / "a.png"))[:, :, ::-1] == black.get_image()).all()
        for path in (tmp_path / "missing" / "a.png", tmp_path / "a.unknown"):
            with pytest.raises(ValueError, match="cannot write"):
                black.save(path)


class TestShapes:
    def test_fill(self, black):
        black.fill([SQUARE], "r", 1.0)
        image = black.get_image()
        assert (image[4:7, 5:9] == (255, 0, 0)).all()
        assert not image[:, :2].any()
        assert not image[:, 12:].any()
        assert not image[:1].any()
        assert not image[10:].any()

    def test_opacity(self):
        vis = VisImage(np.full((12, 16, 3), 100))
        vis.fill([SQUARE], (1.0, 0.0, 0.0), 0.25)
        # 100 * 0.75 + 255 * 0.25 and 100 * 0.75
        assert vis.get_image()[5, 7].tolist() == [139, 75, 75]

    def test_a_polygon_in_a_polygon_is_a_hole(self, black):
        outer = np.array([[0.0, 0], [16, 0], [16, 12], [0, 12]])
        black.fill([outer, SQUARE], "w", 1.0)
        assert black.get_image()[1, 1, 0] == 255
        assert black.get_image()[5, 7, 0] == 0

    @pytest.mark.parametrize("offset", [100, -100, 1e9, float("nan"), float("inf")])
    def test_out_of_sight(self, black, offset):
        black.fill([SQUARE + offset], "w", 1.0)
        black.line(SQUARE + offset, "w", 3)
        black.circle((offset, 5), 2, "w")
        black.text("hello", (offset if np.isfinite(offset) else 1e9, 5), 8, "w")
        assert not black.get_image().any()

    def test_partly_in_sight(self, black):
        black.fill([np.array([[-1e8, -1e8], [1e8, -1e8], [1e8, 6], [-1e8, 6]])], "w", 1.0)
        assert (black.get_image()[:4] == 255).all()
        assert not black.get_image()[8:].any()

    def test_nothing_to_draw(self, black):
        black.fill([], "w", 1.0)
        black.line(np.zeros((0, 2)), "w", 1)
        assert not black.get_image().any()

    def test_line(self, black):
        black.line(np.array([[2, 5.5], [12, 5.5]]), "w", 1)
        row = black.get_image()[5, :, 0]
        assert (row[3:11] > 200).all()
        assert not row[14:].any()
        assert not black.get_image()[8:].any()

    def test_closed_line(self, black):
        black.line(SQUARE, "w", 1, closed=True)
        image = black.get_image()[:, :, 0]
        assert (image[4:7, 3:5].max(axis=1) > 100).all()  # the side that closes it
        assert image[5, 7] == 0

    def test_dashes(self):
        vis = VisImage(np.zeros((9, 60, 3)))
        vis.line(np.array([[5, 4.5], [58, 4.5]]), "w", 2, style="--")
        row = vis.get_image()[4, :, 0]
        edges = np.diff((row > 128).astype(int))
        # 53 pixels, a dash and a gap take (3.7 + 1.6) * 2 = 10.6 pixels
        assert (edges == 1).sum() == 5
        assert np.diff(np.flatnonzero(edges == 1)).tolist() == pytest.approx([10.6] * 4, abs=1)
        with pytest.raises(ValueError, match="'~'"):
            vis.line(SQUARE, "w", 1, style="~")

    def test_circle(self, black):
        black.circle((8.5, 6.5), 3, "w")
        image = black.get_image()[:, :, 0]
        assert (image[6, 6:11] == 255).all()
        assert image[6, 13] == 0

    def test_shapes_follow_the_scale(self):
        vis = VisImage(np.zeros((12, 16, 3)), scale=3)
        vis.fill([SQUARE], "w", 1.0)
        image = vis.get_image()[:, :, 0]
        assert (image[10:23, 13:29] == 255).all()
        assert not image[:, :10].any()


class TestShade:
    def test_whole_numbers_have_hard_edges(self):
        vis = VisImage(np.zeros((4, 6, 3)), scale=3)
        mask = np.zeros((4, 6), dtype=bool)
        mask[1:3, 2:4] = True
        vis.shade(mask.astype(np.uint8), "w", 1.0)
        expected = np.kron(mask, np.ones((3, 3))) * 255
        assert (vis.get_image()[:, :, 0] == expected).all()

    def test_shares(self, black):
        black.shade(np.full((12, 16), 0.5), "w", 0.5)
        assert np.abs(black.get_image().astype(int) - 64).max() <= 1

    def test_nothing(self, black):
        black.shade(np.zeros((12, 16)), "w", 1.0)
        assert not black.get_image().any()


class TestText:
    def ink(self, alignment, rotation=0):
        vis = VisImage(np.full((80, 200, 3), 90))
        vis.text("text", (100, 20), 16, "w", alignment=alignment, rotation=rotation)
        return np.argwhere((vis.get_image() != 90).any(axis=2))

    def test_alignment(self):
        (top, left), (_, right) = self.ink("left").min(axis=0), self.ink("left").max(axis=0)
        assert (top, left) == (20, 100)
        width = right - left
        assert self.ink("right")[:, 1].max() == pytest.approx(99, abs=1)
        assert self.ink("center")[:, 1].min() == pytest.approx(100 - width / 2, abs=1)
        with pytest.raises(ValueError, match="'top'"):
            self.ink("top")

    def test_letters_on_a_dark_label(self):
        vis = VisImage(np.full((80, 200, 3), 90))
        vis.text("text", (100, 20), 16, "w")
        assert vis.get_image().max() > 200
        assert vis.get_image().min() == 18  # 90 * 0.2

    def test_rotation(self):
        upright, turned = self.ink("center"), self.ink("center", 90)
        assert np.ptp(upright[:, 1]) > np.ptp(upright[:, 0])
        assert np.ptp(turned[:, 0]) == pytest.approx(np.ptp(upright[:, 1]), abs=2)
        np.testing.assert_allclose(turned.mean(axis=0), upright.mean(axis=0), atol=2)

    @pytest.mark.parametrize("text", ["", "größe 95%", "日本"])
    def test_any_text(self, black, text):
        black.text(text, (8, 2), 8, "w")
