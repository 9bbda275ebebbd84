"""A gallery searched by a photo of which one attribute is exchanged."""

from dataclasses import replace

import pytest

from match_rcnn.catalogue.commands import build, search
from match_rcnn.catalogue.query import parse_changes
from match_rcnn.commands import index as index_command
from match_rcnn.commands import search as search_command
from match_rcnn.data.images import write_image
from match_rcnn.data.taxonomy import DEEPFASHION2, Attribute
from tests.catalogue.random_models import COLOURS, photo, save_random_model

NAMES = [*COLOURS]
ATTRIBUTES = [Attribute(name, "colour") for name in NAMES]
ATTRIBUTES += [Attribute("long", "sleeve"), Attribute("short", "sleeve")]
KNOWN = replace(DEEPFASHION2, attributes=tuple(ATTRIBUTES))


def save(folder, heads=("ManipulationHead",)):
    """Random layers, and a memory that knows where each colour's photo lies."""
    keys = {"HEADS": list(heads), "MANIPULATION.NAME": "ResidualMemory"}
    keys = {f"MODEL.RECOGNITION.{key}": value for key, value in keys.items()}
    known = teach_memory if "ManipulationHead" in heads else None
    return save_random_model(folder, "flam_quick", KNOWN, known, **keys)


def teach_memory(model, vectors):
    head = model.heads["ManipulationHead"]
    head.dictionary.entries.data[:3] = head.dictionary.embed(vectors)[:, 0]
    head.manipulator.memory.data[:3] = vectors


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in NAMES:
        write_image(folder / f"{name}.png", photo(name))
    return folder


def indexed(weights, photos, output):
    words = ("--weights", weights, "--catalogue", photos, "--output", output)
    build(index_command.parser().parse_args([str(word) for word in words]))
    return output


@pytest.fixture(scope="module")
def gallery(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flam")
    return indexed(save(folder / "run"), photos, folder / "shop.gallery")


def first(gallery, output, *flags):
    words = ("--index", gallery, "--output", output, *flags)
    _, found = search(search_command.parser().parse_args([str(word) for word in words]))
    return found["results"][0]["hits"][0]["image"] if "--query" in flags else None


def test_the_photo_in_another_colour_is_found(gallery, photos, tmp_path):
    query = ("--query", photos / "red.png")
    assert first(gallery, tmp_path, *query) == "red.png"
    for name in NAMES:
        assert first(gallery, tmp_path, *query, "--change", f"colour={name}") == f"{name}.png"
    # What is exchanged for what the memory has nothing of changes nothing.
    both = ("--change", "sleeve=short", "--change", "colour = green")
    assert first(gallery, tmp_path, *query, *both) == "green.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["pattern=striped"], "the model can change colour, sleeve; got 'pattern'"),
        (["colour=pink"], "colour can be red, blue, green; got 'pink'"),
        (["colour"], "--change must be TYPE=VALUE"),
        (["colour=red", "colour=blue"], "--change has two values for colour: red and blue"),
    ],
)
def test_wishes_that_nobody_can_fulfil_are_named(gallery, photos, tmp_path, changes, message):
    flags = [word for change in changes for word in ("--change", change)]
    with pytest.raises(ValueError, match=message):
        first(gallery, tmp_path, "--query", photos / "red.png", *flags)


def test_words_and_other_models_take_no_change(gallery, photos, tmp_path):
    with pytest.raises(ValueError, match="--change is of a --query photo, not of a --text"):
        first(gallery, tmp_path, "--text", "red", "--change", "colour=red")
    plain = indexed(save(tmp_path / "run", ("EmbeddingHead",)), photos, tmp_path / "index")
    with pytest.raises(ValueError, match="exchanges no attributes; --change is for galleries of"):
        first(plain, tmp_path, "--query", photos / "red.png", "--change", "colour=red")


def test_changes_are_parsed():
    assert parse_changes(["a=b", " c = d=e "]) == [("a", "b"), ("c", "d=e")]
