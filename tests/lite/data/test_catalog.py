import pickle

import pytest

from match_rcnn.lite.data import DatasetCatalog, Metadata, MetadataCatalog

pytestmark = pytest.mark.usefixtures("catalogs")


class TestDatasetCatalog:
    def test_loads_what_was_registered(self) -> None:
        DatasetCatalog.register("five", lambda: [{"image_id": 5}])
        assert DatasetCatalog.get("five") == [{"image_id": 5}]
        assert "five" in DatasetCatalog
        assert DatasetCatalog.list()[-1] == "five"
        assert "five" in str(DatasetCatalog)

    def test_function_runs_at_each_get(self) -> None:
        calls: list[int] = []
        DatasetCatalog.register("counted", lambda: calls.append(1) or [])
        assert calls == []
        DatasetCatalog.get("counted")
        DatasetCatalog.get("counted")
        assert calls == [1, 1]

    def test_unknown_name_lists_the_known_ones(self) -> None:
        DatasetCatalog.register("known", list)
        with pytest.raises(KeyError, match=r"no data set 'unknown'.*only: .*known"):
            DatasetCatalog.get("unknown")

    @pytest.mark.parametrize("kind", [ValueError, AssertionError])  # ours, and detectron2's
    def test_taken_name_and_wrong_function(self, kind: type[Exception]) -> None:
        DatasetCatalog.register("taken", list)
        with pytest.raises(kind, match="a data set 'taken' already"):
            DatasetCatalog.register("taken", list)
        with pytest.raises(kind, match="got int"):
            DatasetCatalog.register("no function", 3)  # type: ignore[arg-type]

    def test_remove(self) -> None:
        DatasetCatalog.register("short", list)
        DatasetCatalog.remove("short")
        assert "short" not in DatasetCatalog
        with pytest.raises(KeyError):
            DatasetCatalog.remove("short")


class TestMetadata:
    def test_made_at_first_question_and_kept(self) -> None:
        MetadataCatalog.get("new").thing_classes = ["a", "b"]
        assert MetadataCatalog.get("new").thing_classes == ["a", "b"]
        assert MetadataCatalog.get("new").name == "new"
        assert "new" in MetadataCatalog.list()

    def test_missing_attribute(self) -> None:
        metadata = Metadata(name="shirts")
        metadata.root = "/data"
        with pytest.raises(
            AttributeError, match="'shirts' states no 'thing_classes', only: name, root"
        ):
            _ = metadata.thing_classes
        assert not hasattr(metadata, "thing_classes")
        assert metadata.get("thing_classes") is None
        assert metadata.get("thing_classes", ()) == ()

    @pytest.mark.parametrize(
        ("old", "new"), [(1, 2), ([1, 2], (1, 2)), ([1], [1, 2]), (1, 1.0), (None, False)]
    )
    def test_other_value_raises(self, old: object, new: object) -> None:
        metadata = Metadata(name="m", key=old)
        with pytest.raises(ValueError, match="'key' of data set 'm' is set and stays"):
            metadata.key = new
        with pytest.raises(AssertionError):  # as in detectron2
            metadata.set(key=new)
        assert metadata.key == old

    def test_equal_value_is_accepted(self) -> None:
        metadata = Metadata(name="m", key=[1, 2])
        metadata.key = [1, 2]
        assert metadata.set(key=[1, 2], more=3) is metadata
        assert repr(metadata) == "Metadata(name='m', key=[1, 2], more=3)"

    def test_pickle(self) -> None:
        metadata = pickle.loads(pickle.dumps(Metadata(name="m", key=[1])))
        assert (metadata.name, metadata.key) == ("m", [1])

    def test_empty_name(self) -> None:
        with pytest.raises(ValueError, match="must not be empty"):
            MetadataCatalog.get("")
