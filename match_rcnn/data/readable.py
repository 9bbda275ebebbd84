"""Samples of a training stream in which images that cannot be read are replaced.

What replaces an image is drawn from (seed, position, attempt): a continued run draws the same.
Each sample in whose place something unreadable was met says so under the key ``"unreadable"``, a
list of ``{"file_name", "error"}``.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch.utils.data as torchdata

from match_rcnn.d2 import detection_utils
from match_rcnn.data.image_size import UnreadableImageError
from match_rcnn.data.pairs import PairedStream
from match_rcnn.data.streams import ShuffledStream

#: So many replacements in a row: it is not single files that are broken.
ATTEMPTS = 10

Sample = dict[str, Any]
#: PIL names the object that it reads from, which is another one each time.
_ADDRESS = re.compile(r" <[^<>]* at 0x[0-9a-f]+>")


class TooManyUnreadableError(ValueError):
    """So many images cannot be read that training on the rest would hide a fault."""


class ReadableSamples(torchdata.Dataset[Sample]):
    """The mapped samples of a stream, by its keys.

    Args:
        stream: dataset dicts by key, and others in their place (``units``, ``substitutes``).
        mapper: from a dataset dict to a sample.
    """

    def __init__(
        self, stream: ShuffledStream | PairedStream, mapper: Callable[[Sample], Sample]
    ) -> None:
        self.stream = stream
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, key: int) -> Sample:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Sample]:
        """The samples of a batch.

        Raises:
            TooManyUnreadableError: ten draws in a row held an image that cannot be read.
        """
        samples: list[Sample] = []
        for unit in self.stream.units(keys):
            samples += self._read(unit)
        return samples

    def _read(self, unit: Sequence[int]) -> list[Sample]:
        """The samples of keys that belong together; if one is unreadable, all are replaced."""
        unreadable: list[dict[str, str]] = []
        items = [self.stream[key] for key in unit]
        for attempt in range(ATTEMPTS):
            samples = [self._map(item, unreadable) for item in items]
            found = [sample for sample in samples if sample is not None]
            if len(found) == len(items):
                if unreadable:
                    found[0]["unreadable"] = unreadable
                return found
            items = self.stream.substitutes(unit, attempt)
        last = unreadable[-1]
        raise TooManyUnreadableError(
            f"{ATTEMPTS} images drawn in a row cannot be read, the last one {last['file_name']} "
            f"({last['error']}). Is the folder of the images there, and may it be read?"
        )

    def _map(self, item: Sample, unreadable: list[dict[str, str]]) -> Sample | None:
        try:
            return self.mapper(item)
        except (OSError, UnreadableImageError, detection_utils.SizeMismatchError) as error:
            text = _ADDRESS.sub("", " ".join(str(error).split()))
            unreadable.append({"file_name": str(item.get("file_name")), "error": text})
            return None
