from collections.abc import Iterator

import pytest

from match_rcnn.lite.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def catalogs() -> Iterator[None]:
    """Whatever a test registers is gone after it."""
    datasets, metadata = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data = datasets
    MetadataCatalog.data = metadata
