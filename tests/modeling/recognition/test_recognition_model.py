"""FashionNet as a whole: sizes, torchvision's names, stages, regions, the oracle, bad settings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import vgg16

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, EventStorage, Instances, build_model
from match_rcnn.data.taxonomy import Attribute, Category, Taxonomy
from match_rcnn.engine.recognition import RecognitionTrainer
from match_rcnn.engine.weights import convert
from match_rcnn.modeling.backbones import TorchvisionBackbone
from match_rcnn.modeling.recognition import schedule
from match_rcnn.modeling.recognition.schedule import Stages, Weights
from match_rcnn.modeling.taxonomy import set_taxonomy

CONFIGS = Path(__file__).parents[3] / "configs"
SIDE = 32


def config(name="quick", system="fashionnet", **keys):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{system}_{name}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    categories = tuple(Category(i, name) for i, name in enumerate("abc", 1))
    attributes = tuple(Attribute(name, "texture") for name in "defg")
    set_taxonomy(cfg, Taxonomy("few", categories, attributes))
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


SMALL = {"MODEL__RECOGNITION__CROP_SIZE": SIDE, "MODEL__RECOGNITION__NORM": ""}


def batch(n=4, side=SIDE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for i in range(n):
        slots = side * torch.rand(1, 8, 3, generator=generator)
        slots[..., 2] = torch.randint(0, 4, (8,), generator=generator)
        truth = Instances(
            (side, side),
            gt_boxes=Boxes(torch.tensor([[0.0, 0, side, side]])),
            gt_classes=torch.tensor([i % 3]),
            gt_items=torch.tensor([i // 2]),
            gt_domains=torch.tensor([-1]),
            gt_attributes=torch.tensor([[1, -1, 0, 1]], dtype=torch.int8),
            gt_slots=slots,
        )
        samples.append(
            {
                "file_name": f"{i}.jpg",
                "image": torch.randint(0, 256, (3, side, side), generator=generator).byte(),
                "height": 100,
                "width": 80,
                "region": torch.tensor([10.0, 20, 50, 100]),
                "box": torch.tensor([0.0, 0, side, side]),
                "instances": truth,
            }
        )
    return samples


@pytest.fixture(scope="module")
def fashionnet():
    """At full size, on the meta device: shapes without 900 MB and a second a layer."""
    cfg = config("VGG16", MODEL__WEIGHTS="")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def test_fashionnet_has_the_published_sizes(fashionnet):
    model = fashionnet
    maps = model.backbone(torch.zeros(2, 3, 224, 224, device="meta"))["res3"]
    assert maps.shape == (2, 512, 28, 28)  # conv4_3
    assert [c.out_channels for c in model.global_branch.convs if hasattr(c, "stride")] == [512] * 3
    assert model.global_branch.fcs[0].weight.shape == (4096, 512 * 7 * 7)  # pool5, fc6_global
    assert model.local_branch.fcs[0].weight.shape == (1024, 4 * 4 * 512 * 8)
    assert [f.out_features for f in model.landmark_branch.trunk.fcs[::3]] == [1024, 1024]
    assert model.landmark_branch.position.out_features == 16
    landmarks = model.landmark_branch(maps)
    assert landmarks.xy.shape == (2, 8, 2)
    assert landmarks.visibility.shape == (2, 8, 4)
    assert model.fusion[0].weight.shape == (1024, 4096 + 1024)  # fc7_fusion
    assert model.heads["CategoryHead"].fc.weight.shape == (3, 1024)


def test_vgg16_takes_torchvision_s_names():
    """The layers to conv4_3, and what they compute."""
    with torch.device("meta"):  # or 138 million numbers are drawn at random, twice
        whole, part = vgg16(weights=None), TorchvisionBackbone(name="vgg16", last="res3")
    names = {
        f"features.{i}.{w}"
        for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)
        for w in ("weight", "bias")
    }
    assert part.state_dict().keys() == names
    assert names < whole.state_dict().keys()
    layers = whole.features[:23].to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for values in layers.parameters():
        values.data.normal_(std=0.05, generator=generator)
    part.to_empty(device="cpu").load_state_dict(
        {f"features.{name}": value for name, value in layers.state_dict().items()}
    )
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(part(image)["res3"], layers(image))


def test_a_stage_that_a_network_has_not():
    with pytest.raises(ValueError, match="no stage 'res9'; there are"):
        TorchvisionBackbone(name="mobilenet_v3_small", last="res9")


def losses_of(model, iteration=0, **options):
    with EventStorage(iteration):
        return model.train()(batch(**options))


def test_a_training_step_gives_every_loss():
    losses = losses_of(build_model(config(**SMALL, MODEL__RECOGNITION__STAGES__LENGTHS=())))
    names = ("landmarks", "visibility", "category", "attributes", "triplet")
    assert list(losses) == [f"loss_{name}" for name in names]
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def moved(model, iteration):
    """The parts whose parameters have a gradient at an iteration."""
    model.zero_grad(set_to_none=True)
    sum(losses_of(model, iteration).values()).backward()
    return {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (0, {"backbone", "landmark_branch"}),
        (1, {"backbone", "landmark_branch"}),
        (2, {"backbone", "global_branch", "local_branch", "fusion", "heads"}),
        (4, {"backbone", "global_branch", "local_branch", "fusion", "heads"}),
        (5, {"backbone", "landmark_branch"}),  # again
    ],
)
def test_what_weighs_0_rests(iteration, expected):
    keys = {"LENGTHS": (2, 3), "LANDMARKS": (1.0, 0.0), "REST": (0.0, 1.0)}
    keys = {f"MODEL__RECOGNITION__STAGES__{key}": value for key, value in keys.items()}
    assert moved(build_model(config(**SMALL, **keys)), iteration) == expected


def test_small_weights_move_everything_a_little():
    cfg = config(**SMALL, MODEL__RECOGNITION__STAGES__LENGTHS=(2, 3))
    model = build_model(cfg)
    assert len(moved(model, 0)) == len(moved(model, 2)) == 6
    first, second = losses_of(model, 0), losses_of(model, 2)
    for name, (landmarks, rest) in {"landmarks": (1, 0.2), "category": (0.2, 1)}.items():
        ratio = first[f"loss_{name}"].item() / second[f"loss_{name}"].item()
        assert ratio == pytest.approx(landmarks / rest, rel=1e-4)


def test_stages_take_turns():
    stages = Stages((2, 3), Weights(1.0, 0.2), Weights(0.2, 1.0))
    assert [stages.weights(i).landmarks for i in range(7)] == [1, 1, 0.2, 0.2, 0.2, 1, 1]
    assert Stages().weights(5) == Weights(1.0, 1.0)


def test_several_processes_wait_for_every_gradient(monkeypatch):
    monkeypatch.setattr(schedule.comm, "get_world_size", lambda: 2)
    keys = {"LENGTHS": (2, 3), "REST": (0.0, 1.0)}
    cfg = config(**{f"MODEL__RECOGNITION__STAGES__{key}": value for key, value in keys.items()})
    with pytest.raises(ValueError, match=r"STAGES.REST is \(0.0, 1.0\): with several processes"):
        build_model(cfg)


def test_results_are_in_the_file_s_pixels():
    model = build_model(config(**SMALL)).eval()
    samples = batch(3)
    for sample in samples:
        del sample["instances"]
    found = [out["instances"] for out in model(samples)]
    assert all(len(one) == 1 and one.image_size == (100, 80) for one in found)
    with torch.no_grad():
        xy = model.landmark_branch(model.region_maps(samples)).xy
    expected = torch.tensor([10.0, 20]) + xy * torch.tensor([40.0, 80])
    torch.testing.assert_close(torch.cat([one.pred_slots[..., :2] for one in found]), expected)
    assert found[0].category_scores.shape == (1, 3)
    assert found[0].attribute_scores.shape == (1, 4)
    assert found[0].embedding.shape == (1, 64)


def test_true_landmarks_are_for_the_oracle_alone():
    plain, oracle = (build_model(config(**SMALL, TEST__ORACLE_LANDMARKS=o)) for o in (False, True))
    oracle.load_state_dict(plain.state_dict())
    samples, moved_truth = batch(), batch()
    for sample in moved_truth:
        sample["instances"].gt_slots = sample["instances"].gt_slots * 0
    one, other = (
        [
            torch.cat([o["instances"].attribute_scores for o in model.eval()(x)])
            for x in (samples, moved_truth)
        ]
        for model in (plain, oracle)
    )
    assert torch.equal(*one)
    assert not torch.equal(*other)
    for sample in samples:
        del sample["instances"]
    plain(samples)
    with pytest.raises(ValueError, match=r"0\.jpg comes without its labels"):
        oracle(samples)


def test_a_region_of_a_photo_s_maps():
    """The whole image as the region, and cells of the maps' own number: nearly what a crop gives
    (RoIAlign's samples lie between the cells)."""
    keys = {
        "MODEL__RECOGNITION__POOLER_RESOLUTION": SIDE // 8,
        "MODEL__RECOGNITION__POOLER_SAMPLING_RATIO": 1,
    }
    crop = build_model(config(**SMALL, **keys)).eval()
    roi = build_model(config(**SMALL, **keys, MODEL__RECOGNITION__INPUT="roi")).eval()
    roi.load_state_dict(crop.state_dict())
    with torch.no_grad():
        one, other = crop.region_maps(batch()), roi.region_maps(batch())
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert losses_of(roi).keys() == losses_of(crop).keys()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"INPUT": "box"}, "INPUT must be 'crop' or 'roi', got 'box'"),
        ({"IN_FEATURE": "p9"}, "IN_FEATURE is 'p9'; the backbone gives res3"),
        ({"CROP_SIZE": 100}, r"CROP_SIZE \(100\) must be a multiple of 8"),
        ({"CROP_SIZE": 24}, "maps that can be halved 2 times"),
        ({"HEADS": ["ColorHead"]}, "HEADS: 'ColorHead' is not known; there are AttributeHead"),
        ({"LANDMARKS__NAME": "Guess"}, "LANDMARKS.NAME: 'Guess' is not known"),
        ({"LANDMARKS__NAME": ""}, "pools around landmarks: name a branch"),
        ({"STAGES__LENGTHS": (3,)}, r"STAGES.LENGTHS must be \(\), or"),
        ({"STAGES__REST": (0.0, 0.0)}, "STAGES.REST must be two weights"),
        ({"NORM": "LN"}, "NORM must be one of"),
        ({"FROZEN_HEADS": ["CategoryHead"]}, "heads that stay, but FROZEN is False"),
        ({"FROZEN": True, "FROZEN_HEADS": ["WordHead"]}, "'WordHead' is not in HEADS"),
        ({"FROZEN": True, "HEADS": []}, "no head is left"),
    ],
)
def test_bad_settings(keys, message):
    keys = {f"MODEL__RECOGNITION__{key}": value for key, value in keys.items()}
    with pytest.raises(ValueError, match=message):
        build_model(config(**keys))


@pytest.mark.parametrize(
    ("system", "field", "shape"), [("grnet", "regions", (14, 64)), ("wtbi", "vector", (256,))]
)
def test_a_system_with_a_similarity(system, field, shape):
    """What it needs of a garment is a field; it learns from the pairs of a batch."""
    model = build_model(config(system=system, **SMALL))
    losses = losses_of(model)
    assert losses["loss_similarity"] > 0
    sum(losses.values()).backward()
    learning = [p for p in model.similarity.parameters() if p.requires_grad]
    assert all(torch.isfinite(p.grad).all() for p in learning)
    assert any((p.grad != 0).any() for p in learning)
    model.eval()
    found = [output["instances"] for output in model(batch(2))]
    assert all(one.get(field).shape == (1, *shape) for one in found)


def test_parts_can_be_left_out():
    """Category and attributes alone."""
    keys = {
        "HEADS": ["CategoryHead", "AttributeHead"],
        "LANDMARKS__NAME": "",
        "LOCAL__ENABLED": False,
    }
    keys = {f"MODEL__RECOGNITION__{key}": value for key, value in keys.items()}
    model = build_model(config(**SMALL, **keys))
    assert list(losses_of(model)) == ["loss_category", "loss_attributes"]
    assert not model.eval()(batch())[0]["instances"].has("pred_slots")


def test_torchvision_s_vgg16_fills_the_branches_too(fashionnet):
    """By shape, on the meta device; arrays without memory stand for the file's."""
    with torch.device("meta"):
        whole = vgg16(weights=None)
    file = {k: np.broadcast_to(np.float32(0), v.shape) for k, v in whole.state_dict().items()}
    found = convert(file).weights
    model = {name: tuple(value.shape) for name, value in fashionnet.state_dict().items()}
    fitting = {name for name, value in found.items() if value.shape == model.get(name)}
    unused = {f"backbone.features.{i}.{kind}" for i in (24, 26, 28) for kind in ("weight", "bias")}
    assert fitting == set(found) - unused
    assert {n for n in fitting if "branch" in n and n.endswith("weight")} == {
        *(f"landmark_branch.trunk.convs.{i}.weight" for i in (0, 2, 4)),
        *(f"global_branch.convs.{i}.weight" for i in (0, 2, 4)),
        "global_branch.fcs.0.weight",
    }


def test_lower_precision_computes_and_pools_in_float32():
    model = build_model(config(**SMALL, MODEL__RECOGNITION__STAGES__LENGTHS=()))
    plain = losses_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        low = losses_of(model)
    assert low.keys() == plain.keys()
    for name, loss in plain.items():
        assert low[name].item() == pytest.approx(loss.item(), rel=0.1, abs=0.05), name


def test_frozen_lets_heads_alone_learn():
    """Some steps, with batch norm and dropout: what changes, and what the optimizer holds."""
    keys = {"FROZEN": True, "FROZEN_HEADS": ["EmbeddingHead"], "DROPOUT": 0.5}
    keys = {f"MODEL__RECOGNITION__{key}": value for key, value in keys.items()}
    cfg = config(MODEL__RECOGNITION__CROP_SIZE=SIDE, **keys)
    model = build_model(cfg)
    optimizer = RecognitionTrainer.build_optimizer(cfg, model)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    learned = {name for name, p in model.named_parameters() if id(p) in held}
    heads = ("CategoryHead", "AttributeHead")
    assert learned == {f"heads.{name}.fc.{kind}" for name in heads for kind in ("weight", "bias")}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for i in range(2):
        model.eval().train()  # as an evaluation in between leaves it
        losses = losses_of(model, i)
        assert list(losses) == ["loss_category", "loss_attributes"]
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    after = model.state_dict()
    assert {name for name in after if not after[name].equal(before[name])} == learned
    assert model.training
    assert model.heads["CategoryHead"].training
    assert not any(part.training for part in model.backbone.modules())
    assert not model.heads["EmbeddingHead"].training
    one, other = (losses_of(model) for _ in range(2))
    assert one == other  # no dropout
