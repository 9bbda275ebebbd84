"""A drawn garment of each of DeepFashion2's categories: where its landmarks lie.

``templates.json`` beside this file names its source.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from match_rcnn.utils.arrays import FloatArray
from match_rcnn.utils.files import read_json


@dataclass(frozen=True, eq=False)
class Template:
    """
    Attributes:
        aspect: width / height of the drawn garment.
        xy: (n, 2) its landmarks in the unit square, y down.
    """

    aspect: float
    xy: FloatArray


def _load() -> dict[int, Template]:
    entries = read_json(Path(__file__).with_name("templates.json"))["templates"]
    found = {e["category_id"]: Template(e["aspect"], np.array(e["xy"], float)) for e in entries}
    for template in found.values():
        template.xy.flags.writeable = False
    return found


#: By category id.
TEMPLATES = _load()
