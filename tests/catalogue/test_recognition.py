"""Galleries of a recognition model's vectors, searched by photo and by words."""

import json

import cv2
import numpy as np
import pytest
import torch

from match_rcnn.catalogue.commands import build, search
from match_rcnn.catalogue.recognition import gallery_model
from match_rcnn.commands import index as index_command
from match_rcnn.commands import search as search_command
from match_rcnn.data.sources.deepfashion_labels import FOLDERS
from match_rcnn.data.taxonomy import Attribute, Category, Taxonomy
from match_rcnn.inference.weights import pack_model
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryError
from tests.catalogue.random_models import COLOURS, photo, save_random_model
from tests.data.deepfashion_trees import inshop_tree

HEADS, SIMILARITY = (f"MODEL.RECOGNITION.{name}" for name in ("HEADS", "SIMILARITY"))
TAXONOMY = Taxonomy(
    "shop",
    (Category(1, "tee"), Category(2, "skirt")),
    (Attribute("long", "shape"),),
    ("red", "blue", "green", "striped"),
)


def save(folder, config="words_quick", **keys):
    return save_random_model(
        folder,
        config,
        TAXONOMY,
        teach_words if config == "words_quick" and HEADS not in keys else None,
        **keys,
    )


def teach_words(model, vectors):
    """Each colour's word lies where its photo does, and "striped" between red and blue."""
    words = torch.cat([vectors, vectors[:1] + vectors[1:2]])
    model.heads["WordHead"].vectors.data = 9 * words


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save(tmp_path_factory.mktemp("words") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in COLOURS:
        cv2.imwrite(str(folder / f"{name}.png"), photo(name))
    return folder


def indexed(weights, catalogue, output, *flags):
    words = ("--weights", weights, "--catalogue", catalogue, "--output", output, *flags)
    build(index_command.parser().parse_args([str(word) for word in words]))
    return output


@pytest.fixture(scope="module")
def gallery(weights, photos, tmp_path_factory):
    return indexed(weights, photos, tmp_path_factory.mktemp("index") / "shop.gallery")


def searched(gallery, output, *flags):
    words = ("--index", gallery, "--output", output, *flags)
    return search(search_command.parser().parse_args([str(word) for word in words]))


def test_each_photo_is_an_item_with_its_most_probable_words(gallery, weights):
    opened = Gallery.open(gallery, gallery_model(None, weights).fingerprint)
    items = {item.image: item for item in opened}
    assert items.keys() == {"red.png", "blue.png", "green.png"}
    assert items["red.png"].category.name == "garment"
    assert items["red.png"].box == (0, 0, 40, 48)
    assert set(items["red.png"].attributes) == set(TAXONOMY.words)
    np.testing.assert_allclose(np.linalg.norm(opened.vectors(["red.png#0"])), 1, rtol=1e-5)


def test_words_find_photos(gallery, tmp_path):
    text, found = searched(gallery, tmp_path, "--text", "the Blue", "--top", 2)
    assert found["results"][0]["image"] == "blue.png"
    assert len(found["results"]) == 2
    assert "blue.png" in text
    written = json.loads((tmp_path / "blue.json").read_text())
    assert [hit["id"] for hit in written] == [hit["id"] for hit in found["results"]]
    assert cv2.imread(found["picture"]).ndim == 3


def test_several_words_find_what_has_all(gallery, tmp_path):
    """The mean direction of both is nearest to both photos."""
    _, found = searched(gallery, tmp_path, "--text", "red blue")
    assert {hit["image"] for hit in found["results"][:2]} == {"red.png", "blue.png"}


def test_a_photo_finds_itself(gallery, photos, tmp_path):
    _, found = searched(gallery, tmp_path, "--query", photos / "green.png", "--top", 1)
    (result,) = found["results"]
    assert result["hits"][0]["image"] == "green.png"


def test_a_word_that_the_model_does_not_know(gallery, tmp_path):
    with pytest.raises(
        ValueError, match=r"'stripes' is none of the 4 words .* near it are striped"
    ):
        searched(gallery, tmp_path, "--text", "red stripes")


def test_a_gallery_of_other_weights_is_refused(gallery, tmp_path):
    other = save(tmp_path / "run", **{"MODEL.RECOGNITION.MARGIN": 0.1})
    with pytest.raises(GalleryError, match="made by other weights"):
        searched(gallery, tmp_path, "--text", "red", "--weights", other)


def test_a_model_file_knows_the_words_too(weights, tmp_path):
    pack_model(weights, tmp_path / "words.safetensors")
    model = gallery_model(None, tmp_path / "words.safetensors")
    assert model.vocabulary.words == TAXONOMY.words
    whole = gallery_model(None, weights).text_vector("red")
    np.testing.assert_allclose(model.text_vector("red"), whole, atol=1e-3)


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    inshop_tree(tmp_path / "deepfashion" / FOLDERS["inshop"])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return "deepfashion_inshop_gallery"


def test_a_data_set_is_a_catalogue(weights, data_set, tmp_path):
    opened = Gallery.open(indexed(weights, data_set, tmp_path / "index", "--boxes", "annotated"))
    (item,) = opened
    assert item.image == "Img/img/WOMEN/Dresses/id_00000002/02_2_side.jpg"
    assert (item.product, item.box) == ("id_00000002", (20, 10, 60, 70))
    assert item.fields["category_name"] == "WOMEN/Dresses"
    assert opened.notes["catalogue"] == data_set
    _, found = searched(tmp_path / "index", tmp_path, "--text", "red", "--where", "score IS NULL")
    assert len(found["results"]) == 1


def test_a_model_with_categories_and_no_words(photos, tmp_path):
    heads = ["CategoryHead", "AttributeHead", "EmbeddingHead"]
    file = save(tmp_path / "run", **{HEADS: heads, "TEST.ATTRIBUTE_SCORE_THRESH": 0.0})
    index = indexed(file, photos, tmp_path / "index")
    items = list(Gallery.open(index))
    assert {item.category.name for item in items} <= {"tee", "skirt"}
    assert items[0].attributes == ("long",)
    with pytest.raises(ValueError, match="knows no words; --text is for galleries of a model with"):
        searched(index, tmp_path, "--text", "red")


def test_categories_that_the_model_does_not_know(data_set, tmp_path):
    heads = ["CategoryHead", "EmbeddingHead"]
    file = save(tmp_path / "run", **{HEADS: heads})
    with pytest.raises(ValueError, match="category 'WOMEN/Dresses', which the model does not"):
        indexed(file, data_set, tmp_path / "index", "--boxes", "annotated")


def test_a_model_without_an_embedding_is_refused(photos, tmp_path):
    file = save(tmp_path / "run", **{HEADS: ["CategoryHead"]})
    with pytest.raises(ValueError, match=r"needs a model with an embedding: .* are CategoryHead"):
        indexed(file, photos, tmp_path / "index")


COPIES = {
    HEADS: ["CategoryHead", "EmbeddingHead", "SimilarityHead"],
    f"{SIMILARITY}.PAIR.PER_CATEGORY": True,
}


@pytest.mark.parametrize(
    ("config", "keys"), [("grnet_quick", {}), ("wtbi_quick", {}), ("wtbi_quick", COPIES)]
)
def test_a_similarity_orders_the_candidates(photos, tmp_path, config, keys):
    file = save(tmp_path / "run", config, **keys)
    index = indexed(file, photos, tmp_path / "index")
    model = gallery_model(None, file)
    _, found = searched(index, tmp_path, "--query", photos / "red.png", "--shortlist", 2)
    hits = found["results"][0]["hits"]
    assert len(hits) == 3
    assert hits[2]["similarity"] is None  # behind the shortlist
    asked = _compared(model, "red")
    for hit in hits[:2]:
        offered = _compared(model, hit["image"].removesuffix(".png"))
        with torch.no_grad():
            expected = float(model.similarity.pairs(asked, offered))
        assert hit["similarity"] == pytest.approx(expected, abs=1e-5)
    assert hits[0]["similarity"] >= hits[1]["similarity"]
    _, plain = searched(index, tmp_path, "--query", photos / "red.png", "--shortlist", 0)
    assert [hit["similarity"] for hit in plain["results"][0]["hits"]] == [None] * 3


def _compared(model, colour):
    """What the network itself says of a photo, as a batch of one."""
    found = model._found(photo(colour), [[0, 0, 40, 48]])[0]
    return {name: found.get(name) for name in model.similarity.features()}


def test_a_copy_for_the_query_s_category_orders(photos, tmp_path):
    """Each copy turns the order around that the shared network has."""
    file = save(tmp_path / "run", "wtbi_quick", **COPIES)
    state = torch.load(file, weights_only=True)
    prefix = "heads.SimilarityHead.similarity."
    weight, difference = f"{prefix}layers.2.weight", f"{prefix}differences.4"
    state["model"][difference] = -2 * state["model"][weight][None].repeat(2, 1, 1)
    turned = tmp_path / "turned"
    turned.mkdir()
    (turned / "config.yaml").write_text((file.parent / "config.yaml").read_text())
    torch.save(state, turned / file.name)
    orders = []
    for own in (file, turned / file.name):
        index = indexed(own, photos, own.parent / "index")
        _, found = searched(index, tmp_path, "--query", photos / "red.png")
        orders.append([hit["image"] for hit in found["results"][0]["hits"]])
    assert orders[0] == orders[1][::-1]


@pytest.mark.parametrize(
    "keys",
    [
        {"MODEL.RECOGNITION.EMBEDDING_DIM": 8},
        {"MODEL.RECOGNITION.EMBEDDING_DIM": 256},  # as long as the vector, and another
        {f"{SIMILARITY}.NAME": "ProductSimilarity"},
    ],
)
def test_a_similarity_of_other_vectors_than_are_kept_is_refused(tmp_path, keys):
    file = save(tmp_path / "run", "wtbi_quick", **keys)
    with pytest.raises(ValueError, match=r"a gallery keeps embeddings, and .* compares other"):
        gallery_model(None, file)


def test_other_settings_of_a_similarity_are_another_model(tmp_path):
    concat = {f"{SIMILARITY}.PAIR.INPUT": "concat"}
    files = [save(tmp_path / "a", "wtbi_quick"), save(tmp_path / "b", "wtbi_quick", **concat)]
    one, other = (gallery_model(None, file).fingerprint for file in files)
    assert one.weights == other.weights
    assert one.config != other.config
