"""Recognition models of random layers, as a run leaves them, and photos of one colour each."""

import numpy as np
import torch

from match_rcnn.catalogue.recognition import gallery_model
from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import build_model
from match_rcnn.modeling.taxonomy import set_taxonomy
from match_rcnn.utils.shipped import config_file

COLOURS = {"red": (0, 0, 255), "blue": (255, 0, 0), "green": (0, 255, 0)}


def photo(colour):
    picture = np.full((48, 40, 3), 60, np.uint8)
    picture[8:40, 8:32] = COLOURS[colour]
    return picture


def save_random_model(folder, config, taxonomy, teach, **keys):
    """A checkpoint in a new folder, with its config.

    ``teach(model, vectors)`` changes the model, if there is one, by the (3, d) embeddings that it
    gives the photos of COLOURS.
    """
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config_file(config)))
    for key, value in {"MODEL.RECOGNITION.CROP_SIZE": 32, **keys}.items():
        cfg.merge_from_list([key, value])
    set_taxonomy(cfg, taxonomy)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    folder.mkdir()
    file = folder / "model_final.pth"
    (folder / "config.yaml").write_text(cfg.dump())

    def write():
        torch.save({"model": model.state_dict(), "taxonomy": taxonomy.to_dict()}, file)

    write()
    if teach is not None:
        own = gallery_model(None, file)
        teach(model, torch.stack([torch.from_numpy(own(photo(c))[0].embedding) for c in COLOURS]))
        write()
    return file
