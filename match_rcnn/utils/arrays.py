"""Names for the arrays that pass between modules: by what their numbers are."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
#: What models give and take.
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
#: Pixels, (H, W, C) or (H, W).
Image = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
