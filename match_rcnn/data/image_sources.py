"""Whose photo an image is: a user's or a shop's.

A test set has no annotations that say so; the official archive of its image information has a file
for each source, in COCO form without annotations.
"""

from pathlib import Path

from match_rcnn.utils.json_stream import stream_arrays

USER, SHOP = SOURCES = ("user", "shop")
#: ``gt_sources`` of a model's input by an image's ``source``, and of an image whose is unknown.
SOURCE_CODES = {USER: 0, SHOP: 1}
NO_SOURCE = -1

#: Beside the folder of the images, by source.
SOURCE_FILES = {
    USER: "retrieval_test_consumer_information.json",
    SHOP: "retrieval_test_shop_information.json",
}


def read_image_sources(folder: str | Path) -> dict[int, str]:
    """``"user"`` or ``"shop"`` by image id, of those files that ``folder`` has; ``{}`` for none.

    Raises:
        ValueError: a file that lists no images, or one without a whole number as its id.
    """
    sources: dict[int, str] = {}
    for source, name in SOURCE_FILES.items():
        path = Path(folder) / name
        if not path.is_file():
            continue
        before = len(sources)
        for key, images in stream_arrays(path):
            for image in images if key == "images" else ():
                if not isinstance(image, dict) or type(image.get("id")) is not int:
                    raise ValueError(
                        f"{path}: expected images with a whole number as id, got {image!r:.80}"
                    )
                sources[image["id"]] = source
        if len(sources) == before:
            raise ValueError(f"{path}: no list 'images' with images of its own")
    return sources
