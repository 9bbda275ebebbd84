"""What the paper's authors published for the validation set of the released data.

From the DeepFashion2 paper (Ge et al., CVPR 2019, arXiv 1901.07973) and its official repository;
see PAPER section 3. Figures by subset, per category or with ground-truth boxes are not among those
that we have, so the tables leave them empty.
"""

SOURCE = "published (Ge et al. 2019)"

#: AP, AP50 and AP75 over everything, by view.
OVERALL: dict[str, dict[str, float]] = {
    "bbox": {"AP": 0.638, "AP50": 0.789, "AP75": 0.745},
    "segm": {"AP": 0.640, "AP50": 0.797, "AP75": 0.754},
    "keypoints_visible": {"AP": 0.605, "AP50": 0.790, "AP75": 0.684},
    "keypoints": {"AP": 0.529, "AP50": 0.775, "AP75": 0.596},
}

#: Top-k accuracy with detected boxes, by the match network's features.
RETRIEVAL: dict[str, dict[int, float]] = {
    "class": {1: 0.079, 5: 0.198, 10: 0.273, 15: 0.329, 20: 0.366},
    "pose": {1: 0.182, 5: 0.326, 10: 0.416, 15: 0.469, 20: 0.510},
    "mask": {1: 0.135, 5: 0.271, 10: 0.350, 15: 0.407, 20: 0.447},
    "pose+class": {1: 0.192, 5: 0.345, 10: 0.435, 15: 0.488, 20: 0.524},
    "mask+class": {1: 0.152, 5: 0.295, 10: 0.379, 15: 0.435, 20: 0.477},
}
