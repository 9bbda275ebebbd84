"""Words of descriptions: which count, and how images are drawn by them."""

import json
from collections import Counter

import numpy as np
import pytest

from match_rcnn.data.recognition import load_records, register_deepfashion
from match_rcnn.data.recognition_loader import Relabelled, taxonomy_to_recognise
from match_rcnn.data.sources.deepfashion_labels import FOLDERS
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.data.words import Vocabulary, WordStream, most_frequent, tokens
from tests.data.deepfashion_trees import inshop_tree


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Striped dress, and 2 belts!", ["striped", "dress", "belts"]),
        (["Polka-dot TEE.", "Don't iron"], ["polka", "dot", "tee", "iron"]),
        ("a 100% x_y über l'été", ["über", "été"]),  # letters alone, two at least
        ([], []),
    ],
)
def test_tokens(text, words):
    assert tokens(text) == words


def test_the_vocabulary_counts_a_word_once_a_description():
    texts = ["red red red dress", "blue dress", ["blue", "hat"]]
    assert most_frequent(texts, 10) == ("blue", "dress", "hat", "red")
    assert most_frequent(texts, 2) == ("blue", "dress")
    vocabulary = Vocabulary(("blue", "dress", "hat"))
    assert vocabulary.indices("A hat, a blue hat and a scarf").tolist() == [0, 2]
    assert vocabulary.indices("").tolist() == []


def test_what_is_asked_for_must_be_known():
    vocabulary = Vocabulary(("striped", "stripes", "dress"))
    assert vocabulary.asked("the striped dress").tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"'stripy' is none of the 3 words .* near it are strip"):
        vocabulary.asked("stripy dress")
    with pytest.raises(ValueError, match=r"'qqqq' is none .* nothing near it"):
        vocabulary.asked("qqqq")
    with pytest.raises(ValueError, match="'with the' has no word"):
        vocabulary.asked("with the")


WORDS = [np.array(own, np.int64) for own in ([0], [0, 3], [], [0, 1], [0])]


def stream(seed=7, words=WORDS):
    return WordStream([{"image": i} for i in range(len(words))], words, seed)


def test_words_are_drawn_uniformly_then_images():
    """Word 0 has four images, words 1 and 3 one each, word 2 none."""
    found = stream()
    drawn = Counter((found[p]["word"], found[p]["image"]) for p in range(6000))
    assert set(drawn) == {(0, 0), (0, 1), (0, 3), (0, 4), (1, 3), (3, 1)}
    assert all(abs(drawn[pair] - 2000) < 160 for pair in ((1, 3), (3, 1)))
    assert all(abs(drawn[0, image] - 500) < 100 for image in (0, 1, 3, 4))


def test_a_position_is_a_pure_function_of_the_seed():
    one, other = stream(), stream()
    assert [one[p] for p in range(30)] == [other[p] for p in reversed(range(30))][::-1]
    assert all(one.index(p) == one[p]["image"] for p in range(30))
    before = [one[p] for p in range(30)]
    one.reseed(8)
    assert [one[p] for p in range(30)] != before
    assert len(one) == 5


def test_substitutes_are_other_draws():
    found = stream(words=[np.array([i]) for i in range(50)])
    drawn = {found.substitutes([4], attempt)[0]["image"] for attempt in range(10)}
    assert len(drawn) > 5
    assert found.index(4) not in {found.substitutes([4], 0)[0]["image"]}
    assert found.substitutes([4], 3) == found.substitutes([4], 3)


def test_no_image_with_a_word_is_an_error():
    with pytest.raises(ValueError, match="WordSampler finds no image with a word"):
        stream(words=[np.zeros(0, np.int64)])


@pytest.fixture
def described(tmp_path):
    """In-shop's tree with a list of descriptions, in a folder of its own as newer releases have."""
    root = inshop_tree(tmp_path / "deepfashion" / FOLDERS["inshop"])
    entries = [
        {"item": "id_00000002", "color": "Red", "description": ["A red dress.", "With lace."]},
        {"item": "id_00000002", "color": "Blue", "description": "A blue dress"},
        {"item": "id_00000077", "color": "Blue", "description": ["nobody's"]},
    ]
    (root / "Anno/texts").mkdir()
    (root / "Anno/texts/list_description_inshop.json").write_text(json.dumps(entries))
    return root


def test_records_have_the_descriptions_of_their_items(described, tmp_path):
    test = load_records(described, "inshop", "test")
    assert [r["description"] for r in test] == [["A red dress.", "With lace.", "A blue dress"]] * 2
    assert test.descriptions() == [r["description"] for r in test]
    train = load_records(described, "inshop", "train")
    assert "description" not in train[0]  # its item is not in the list
    assert train.descriptions() == [[]]
    register_deepfashion(tmp_path)
    name = "deepfashion_inshop_test"
    assert taxonomy_to_recognise([name]).words == ()
    taxonomy = taxonomy_to_recognise([name], 3)
    assert taxonomy.words == ("blue", "dress", "lace")  # one of four goes
    part = Relabelled(name, taxonomy)
    assert [own.tolist() for own in part.words()] == [[0, 1, 2]] * 2
    assert part[0]["annotations"][0]["words"].tolist() == [0, 1, 2]
    back = Taxonomy.from_dict(taxonomy.to_dict())
    assert (back, back.words) == (taxonomy, taxonomy.words)


def test_a_list_that_changes_is_read_again(described):
    load_records(described, "inshop", "test")
    file = described / "Anno/texts/list_description_inshop.json"
    file.write_text('[{"item": "id_00000002", "description": "green"}]')
    assert load_records(described, "inshop", "test")[0]["description"] == ["green"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"item": 1}', "inshop.json: expected a list of descriptions"),
        ('[{"item": "id_00000002"}]', "inshop.json, entry 0: expected 'item' and 'description'"),
        ('[{"item": "a", "description": [1]}]', "entry 0: expected"),
        ("[7]", "entry 0: expected"),
    ],
)
def test_a_list_of_another_form(described, text, message):
    (described / "Anno/texts/list_description_inshop.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_records(described, "inshop", "test")
