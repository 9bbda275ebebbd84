import numpy as np

from match_rcnn.data.synthetic.descriptions import SAID, SYNONYMS, describe
from match_rcnn.data.synthetic.wardrobe import ATTRIBUTES, KINDS, random_article


def says(text, name):
    return any(f" {word.lower()}" in text for word in (name, *SYNONYMS.get(name, ())))


def test_a_description_says_some_of_the_article_and_other_things_too():
    rng = np.random.default_rng(0)
    said = total = kinds = own = 0
    texts = []
    for _ in range(200):
        article = random_article(rng)
        sentences = describe(rng, article)
        text = f" {' '.join(sentences).lower()}"
        texts.append(text)
        said += sum(says(text, name) for name in article.names)
        own += sum(f" {name}" in text for name in article.names)
        total += len(article.names)
        kinds += says(text, article.kind.name)
    assert SAID - 0.05 < said / total < SAID + 0.15  # some stand in others' words by chance
    assert own < 0.9 * said  # by another name
    assert 0.8 < kinds / 200 < 0.97
    assert len(set(texts)) > 190
    assert sum("wash" in text for text in texts) > 20


def test_synonyms_are_of_names_that_there_are():
    assert not SYNONYMS.keys() - {a.name for a in ATTRIBUTES} - {k.name for k in KINDS}
