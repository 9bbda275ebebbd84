import pytest

from match_rcnn.lite.config import configurable, get_cfg


class Head:
    @configurable
    def __init__(self, size, classes=2, *, norm="BN"):
        """Makes a head."""
        self.made = (size, classes, norm)

    @classmethod
    def from_config(cls, cfg, shape, scale=1):
        return {"size": shape * scale, "classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}


class Wide(Head):
    @configurable
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    @classmethod
    def from_config(cls, cfg, shape):
        return {**super().from_config(cfg, shape), "width": cfg.SEED}


class Inherits(Head):
    """Neither __init__ nor from_config of its own."""


class Greedy:
    @configurable
    def __init__(self, **kwargs):
        self.made = kwargs

    @classmethod
    def from_config(cls, cfg, **kwargs):
        return {"all": kwargs}


@configurable(from_config=lambda cfg, a, b=2: {"a": a, "b": b, "c": cfg.SEED})
def function(a, b, c):
    return a, b, c


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.SEED = 77
    return cfg


class TestClass:
    def test_explicit(self):
        assert Head(3, norm="GN").made == (3, 2, "GN")
        assert Head(size=3, classes=5).made == (3, 5, "BN")

    def test_from_config(self, cfg):
        assert Head(cfg, 7).made == (7, 80, "BN")
        assert Head(cfg, shape=7).made == (7, 80, "BN")
        assert Head(cfg=cfg, shape=7).made == (7, 80, "BN")

    def test_arguments_of_from_config_go_there(self, cfg):
        assert Head(cfg, 7, 2).made == (14, 80, "BN")
        assert Head(cfg, 7, scale=3).made == (21, 80, "BN")

    def test_others_are_laid_over_its_result(self, cfg):
        assert Head(cfg, 7, classes=9, norm="GN").made == (7, 9, "GN")
        with pytest.raises(TypeError, match="colour"):
            Head(cfg, 7, colour="red")

    def test_subclasses(self, cfg):
        wide = Wide(cfg, 7, classes=9)
        assert (wide.made, wide.width) == ((7, 9, "BN"), 77)
        assert Wide(width=1, size=2).made == (2, 2, "BN")
        assert Inherits(cfg, 7).made == (7, 80, "BN")

    def test_keywords_of_a_variadic_from_config_all_go_there(self, cfg):
        assert Greedy(cfg, a=1, b=2).made == {"all": {"a": 1, "b": 2}}

    def test_name_and_docstring_stay(self):
        assert Head.__init__.__doc__ == "Makes a head."
        assert Head.__init__.__name__ == "__init__"


class TestFunction:
    def test_both_ways(self, cfg):
        assert function(1, 2, c=3) == (1, 2, 3)
        assert function(cfg, 5) == (5, 2, 77)
        assert function(cfg, a=5, b=6, c=7) == (5, 6, 7)
        with pytest.raises(TypeError, match="'c'"):
            function(1, 2)

    def test_from_config_is_at_hand(self, cfg):
        assert function.from_config(cfg, 3) == {"a": 3, "b": 2, "c": 77}


class TestMisuse:
    def test_without_from_config(self):
        class Bad:
            @configurable
            def __init__(self, a=1):
                pass

        with pytest.raises(AttributeError, match=r"Bad.*from_config"):
            Bad()

    def test_from_config_as_a_plain_method(self):
        class Bad:
            @configurable
            def __init__(self, a=1):
                pass

            def from_config(self, cfg):
                return {}

        with pytest.raises(TypeError, match="classmethod"):
            Bad()

    def test_first_argument_of_another_name(self, cfg):
        class Bad:
            @configurable
            def __init__(self, a=1):
                pass

            @classmethod
            def from_config(cls, config):
                return {}

        with pytest.raises(TypeError, match=r"Bad\.from_config must be 'cfg'"):
            Bad(cfg)

    def test_on_a_function_without_from_config(self):
        with pytest.raises(TypeError, match="for __init__, not plain"):

            @configurable
            def plain(a):
                return a

    @pytest.mark.parametrize("from_config", [3, "name", {}])
    def test_from_config_that_is_no_function(self, from_config):
        with pytest.raises(TypeError, match="a function"):
            configurable(from_config=from_config)
