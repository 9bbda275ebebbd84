"""Which garments a model knows, by its config.

``MODEL.TAXONOMY`` is ``"deepfashion2"``, or the yaml text of a taxonomy; "" until a run's set-up
has filled in that of the training sets. So the config in a run's folder says what the model's
classes and channels are.
"""

from dataclasses import replace

import yaml

from match_rcnn.d2 import CfgNode
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy

_NAMED = {"": DEEPFASHION2, "deepfashion2": DEEPFASHION2}


def taxonomy_from_config(cfg: CfgNode) -> Taxonomy:
    """DeepFashion2's where none is stated.

    Raises:
        ValueError: ``MODEL.TAXONOMY`` is neither the name of a taxonomy nor one as yaml.
    """
    text = cfg.MODEL.TAXONOMY
    if text in _NAMED:
        return _NAMED[text]
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"MODEL.TAXONOMY is no yaml: {' '.join(str(error).split())}") from error
    return Taxonomy.from_dict(values, "MODEL.TAXONOMY")


def set_taxonomy(cfg: CfgNode, taxonomy: Taxonomy) -> None:
    """Set ``MODEL.TAXONOMY`` in place. Words that it states stay: they are a model's, and not each
    data set has all of them.

    Raises:
        ValueError: it is set to another one.
    """
    stated = taxonomy_from_config(cfg)
    if cfg.MODEL.TAXONOMY and stated != taxonomy:
        raise ValueError(
            f"MODEL.TAXONOMY has {stated.num_categories} categories with {stated.num_landmarks} "
            f"landmarks, but those of the training set are others: {taxonomy.num_categories} with "
            f"{taxonomy.num_landmarks}; leave the key out, and it follows"
        )
    if stated.attributes and not taxonomy.attributes:  # of a model that goes on without them
        taxonomy = replace(taxonomy, attributes=stated.attributes)
    taxonomy = replace(taxonomy, words=stated.words or taxonomy.words)
    if cfg.MODEL.TAXONOMY and stated.attributes not in ((), taxonomy.attributes):
        raise ValueError(
            f"MODEL.TAXONOMY has {len(stated.attributes)} attributes, but those of the training "
            f"set are others ({len(taxonomy.attributes)}); leave the key out, and it follows"
        )
    is_default = taxonomy == DEEPFASHION2 and not taxonomy.attributes and not taxonomy.words
    # Text that is no Python literal, since the host's configs would take it for its value.
    text = yaml.safe_dump(taxonomy.to_dict(), sort_keys=False, allow_unicode=True)
    cfg.MODEL.TAXONOMY = "deepfashion2" if is_default else text
