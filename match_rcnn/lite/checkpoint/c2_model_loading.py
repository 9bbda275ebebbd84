"""Finding the model parameters that the weights of another library belong to.

``M`` is the number of keys in the model, ``C`` in the checkpoint. A checkpoint key belongs to the
model key of which it is the longest suffix at a dot: "res2.0.conv1.weight" goes to
"backbone.bottom_up.res2.0.conv1.weight". Caffe2 names are translated first.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# Applied in this order, each to the outcome of the last.
_BASIC_RULES = (
    (r"^pred_(?=[wb]$)", "linear_"),
    (r"_", "."),
    (r"\.w$", ".weight"),
    (r"\.b$", ".bias"),
    (r"\.[bg]n\.(s|gamma)$", ".norm.weight"),
    (r"\.[bg]n\.(bias|beta)$", ".norm.bias"),
    (r"\.bn\.(rm|running\.mean)$", ".norm.running_mean"),
    (r"\.bn\.(riv|running\.var)$", ".norm.running_var"),
    (r"^(res\.)?conv1\.", "stem.conv1."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."),
    (r"\.branch2b\.", ".conv2."),
    (r"\.branch2c\.", ".conv3."),
)
_DETECTRON_RULES = (
    # Detectron shares one RPN head between the levels and names it after level 2.
    (r"^conv\.rpn(\.fpn2)?\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn\.bbox\.pred(\.fpn2)?\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^rpn\.cls\.logits(\.fpn2)?\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^fpn\.inner\.res(\d)\.\d+\.sum(\.lateral)?\.", r"fpn_lateral\1."),
    (r"^fpn\.res(\d)\.\d+\.sum\.", r"fpn_output\1."),
    (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."),
    (r"^head\.conv(\d)", r"box_head.conv\1"),
    (r"^bbox\.pred\.", "bbox_pred."),
    (r"^cls\.score\.", "cls_score."),
    (r"^\.\[mask\]\.fcn(\d)", r"mask_head.mask_fcn\1"),
    (r"^conv5\.mask\.", "mask_head.deconv."),
    (r"^mask\.fcn\.logits\.", "mask_head.predictor."),
    (r"^conv\.fcn(\d)", r"roi_heads.keypoint_head.conv_fcn\1"),
    (r"^kps\.score\.lowres\.", "roi_heads.keypoint_head.score_lowres."),
    (r"^kps\.score\.", "roi_heads.keypoint_head.score."),
)


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def convert_basic_c2_names(original_keys: Iterable[str]) -> list[str]:
    """Caffe2 names of a ResNet's layers ("res2_0_branch2a_w") in our terms
    ("res2.0.conv1.weight"), in the same order."""
    return [_rename(key, _BASIC_RULES) for key in original_keys]


def convert_c2_detectron_names(
    weights: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Translate the names of Detectron (Caffe2) and move its background class to our place.

    Returns:
        The weights by new name, and the old name of each new name.

    Raises:
        ValueError: two names become one.
    """
    converted: dict[str, Tensor] = {}
    originals: dict[str, str] = {}
    for old, basic in zip(weights, convert_basic_c2_names(weights), strict=True):
        new = _rename(basic, _DETECTRON_RULES)
        if new in originals:
            raise ValueError(f"Caffe2 weights {originals[new]!r} and {old!r} both become {new!r}")
        originals[new] = old
        converted[new] = _move_background(new, weights[old])
    return converted, originals


def _move_background(name: str, weight: Tensor) -> Tensor:
    """Detectron's class 0 is the background; here it is the last class of the classifier and no
    class of the box and mask predictors."""
    if name.startswith("cls_score."):
        return torch.cat([weight[1:], weight[:1]])
    if name.startswith("bbox_pred."):
        return weight[4:]
    if name.startswith("mask_head.predictor."):
        return weight[1:]
    return weight


def align_and_update_state_dicts(
    model_state_dict: Mapping[str, Tensor],
    ckpt_state_dict: Mapping[str, Tensor],
    c2_conversion: bool = True,
) -> dict[str, Tensor]:
    """The checkpoint's weights under the model's names.

    Args:
        model_state_dict: M names with the shapes that are expected.
        ckpt_state_dict: C weights.
        c2_conversion: translate Caffe2 names first.

    Returns:
        C weights. What fits no name, or has another shape, keeps the name it had.

    Raises:
        ValueError: one weight fits two parameters of the model.
    """
    if c2_conversion:
        weights, originals = convert_c2_detectron_names(ckpt_state_dict)
    else:
        weights, originals = dict(ckpt_state_dict), {key: key for key in ckpt_state_dict}
    sources: dict[str, str] = {}
    for target, expected in model_state_dict.items():
        source = _longest_suffix(target, weights)
        if source is not None and _fits(target, expected, originals[source], weights[source]):
            if source in sources:
                raise ValueError(
                    f"Weight {originals[source]!r} of the checkpoint matches both "
                    f"{sources[source]!r} and {target!r} of the model"
                )
            sources[source] = target
    _log_matches({target: originals[source] for source, target in sources.items()})
    return {sources.get(key, key): weight for key, weight in weights.items()}


def _longest_suffix(name: str, candidates: Mapping[str, Tensor]) -> str | None:
    while name not in candidates:
        _, dot, name = name.partition(".")
        if not dot:
            return None
    return name


def _fits(target: str, expected: Tensor, source: str, weight: Tensor) -> bool:
    if expected.shape == weight.shape:
        return True
    logger.warning(
        "%s of the checkpoint is of shape %s, but %s of the model of %s: it is left out, check "
        "whether this is meant",
        source,
        tuple(weight.shape),
        target,
        tuple(expected.shape),
    )
    return False


def _log_matches(sources: Mapping[str, str]) -> None:
    """One line a module of the model."""
    modules: dict[str, list[str]] = defaultdict(list)
    for target, source in sources.items():
        modules[target.rpartition(".")[0]].append(source)
    lines = [f"  {module} <- {', '.join(names)}" for module, names in modules.items()]
    logger.info("%d weights matched by name:\n%s", len(sources), "\n".join(lines))
