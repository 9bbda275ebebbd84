from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from match_rcnn.lite.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def catalogs() -> Iterator[None]:
    """Whatever a test registers is gone after it."""
    datasets, metadata = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data = datasets
    MetadataCatalog.data = metadata


@pytest.fixture
def gradient(tmp_path: Path) -> tuple[str, np.ndarray]:
    """A 20 x 30 png whose red channel tells the column, green the row; and its RGB array."""
    rgb = np.zeros((20, 30, 3), dtype=np.uint8)
    rgb[..., 0] = np.arange(30) * 8
    rgb[..., 1] = np.arange(20)[:, None] * 12
    rgb[..., 2] = 200
    path = tmp_path / "gradient.png"
    Image.fromarray(rgb).save(path)
    return str(path), rgb
