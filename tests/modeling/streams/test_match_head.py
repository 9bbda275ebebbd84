import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, EventStorage, Instances, Keypoints, ShapeSpec
from match_rcnn.experiments.ablation import LOSSES, VARIANTS
from match_rcnn.modeling.streams.landmarks import landmark_inside
from match_rcnn.modeling.streams.match_head import SiameseMatchHead
from match_rcnn.modeling.streams.match_losses import (
    Contrastive,
    InfoNCE,
    PairCrossEntropy,
    Triplet,
    build_match_loss,
    pair_ce_loss,
)
from match_rcnn.modeling.streams.matching import MatchStream
from match_rcnn.modeling.streams.stream import PooledFeatures, take

SHAPES = {
    "class": ShapeSpec(channels=12),
    "pose": ShapeSpec(channels=6, height=14, width=14),
    "mask": ShapeSpec(channels=5, height=14, width=14),
    "pyramid": ShapeSpec(channels=7, height=14, width=14),
}
# No distance on the unit sphere reaches this margin, so that no term vanishes.
MAKE_LOSS = {
    "pair_ce": PairCrossEntropy,
    "triplet": lambda dim: Triplet(dim, margin=5.0),
    "contrastive": lambda dim: Contrastive(dim, margin=5.0),
    "info_nce": InfoNCE,
}
USER, SHOP = 0, 1


def make_head(variant="pose+class", loss="pair_ce"):
    torch.manual_seed(0)
    shapes = {name: SHAPES[name] for name in variant.split("+")}
    return SiameseMatchHead(shapes, conv_dims=(8, 8, 8, 16), embedding_dim=4, loss=MAKE_LOSS[loss])


def make_features(variant, count):
    torch.manual_seed(1)
    made = {
        "class": torch.randn(count, 12, requires_grad=True),
        "pose": torch.randn(count, 6, 14, 14, requires_grad=True),
        "mask": torch.randn(count, 5, 14, 14, requires_grad=True),
        "pyramid": torch.randn(count, 7, 14, 14, requires_grad=True),
    }
    return {stream: made[stream] for stream in variant.split("+")}


def image_of(source, *products):
    image = Instances((50, 50))
    image.gt_sources = torch.full((len(products),), source)
    image.gt_pair_ids = torch.tensor([p for p, _ in products], dtype=torch.int64)
    image.gt_styles = torch.tensor([s for _, s in products], dtype=torch.int64)
    return image


PAIR = [image_of(USER, (7, 1), (7, 2)), image_of(SHOP, (7, 1)), image_of(SHOP, (8, 1))]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_variant_and_loss_trains_all_parameters(variant, loss):
    head = make_head(variant, loss)
    features = make_features(variant, 4)
    with EventStorage() as storage:
        losses = head(features, PAIR)
        assert storage.latest()["match/num_pairs"][0] == 4
        assert storage.latest()["match/num_positive_pairs"][0] == 1
    losses["loss_match"].backward()
    assert losses["loss_match"] > 0
    assert all(p.grad is not None for p in head.parameters())
    assert all(f.grad.abs().sum() > 0 for f in features.values())


def test_the_paper_s_loss_pairs_users_with_shops_and_labels_by_product():
    head = make_head()
    features = make_features("pose+class", 4)
    with EventStorage():
        loss = head(features, PAIR)["loss_match"]
    embeddings = head.embed(features)  # batch norm takes the same batch again
    logits = head.classifier.logits(embeddings[:2], embeddings[2:])
    positive = torch.tensor([[True, False], [False, False]])
    assert torch.allclose(loss, pair_ce_loss(logits, positive))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "images",
    [[], [image_of(USER)], [image_of(USER, (1, 1))], [image_of(USER, (1, 1), (1, 2))]],
    ids=["no image", "no roi", "one roi", "no shop"],
)
def test_a_batch_without_pairs_is_zero_with_gradients(loss, images):
    head = make_head(loss=loss)
    features = make_features("pose+class", sum(len(i) for i in images))
    with EventStorage():
        value = head(features, images)["loss_match"]
    value.backward()
    assert value.item() == 0
    assert all(p.grad is not None for p in head.parameters())
    assert all(f.grad is not None for f in features.values())


def test_class_features_join_as_a_concatenated_constant_map_would():
    head = make_head().eval()
    features = make_features("pose+class", 3)
    first = head.convs[0]
    joined = torch.nn.Conv2d(6 + 12, 8, 3, padding=1)
    with torch.no_grad():
        joined.weight.zero_()
        joined.weight[:, :6] = first.weight
        joined.weight[:, 6:, 1, 1] = head.join.weight
        joined.bias.copy_(first.bias + head.join.bias)
        x = torch.cat(
            [features["pose"], features["class"][..., None, None].expand(3, 12, 14, 14)], dim=1
        )
        x = joined(x).relu()
        for conv in list(head.convs)[1:]:
            x = conv(x).relu()
        expected = head.norm(head.fc(x.mean((2, 3)).relu()))
        assert torch.allclose(head.embed(features), expected, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_inference_gives_embeddings_whose_score_is_the_model_s(loss):
    head = make_head(loss=loss).eval()
    images = [Instances((50, 50), scores=torch.zeros(n)) for n in (2, 0, 3)]
    with torch.no_grad():
        found = head(make_features("pose+class", 5), images)
        assert [tuple(image.embedding.shape) for image in found] == [(2, 4), (0, 4), (3, 4)]
        q, g = found[0].embedding, found[2].embedding
        weight, bias = head.score_weights()
        score = ((q[:, None] - g[None]) ** 2 * weight).sum(-1) + bias
        if loss == "pair_ce":
            logits = head.classifier.logits(q, g)
            assert torch.allclose(score, logits[..., 1] - logits[..., 0], atol=1e-6)
        else:
            assert torch.allclose(q.norm(dim=1), torch.ones(2))
            assert torch.allclose(score, 2 * (q @ g.t()) - 2, atol=1e-5)


def test_unknown_names_are_refused_with_the_known_ones():
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.ROI_MATCH_HEAD.LOSS = "l2"
    with pytest.raises(ValueError, match=r"contrastive, info_nce, pair_ce, triplet.*; got 'l2'"):
        build_match_loss(cfg, 4)


def test_two_maps_are_refused():
    with pytest.raises(ValueError, match="one map at most, got pose, mask"):
        make_head("pose+mask")


def proposals_of(*rows):
    """(box, gt box, class, has a partner, a landmark at) -> labelled proposals."""
    image = Instances((100, 100))
    boxes, targets, classes, partners, points = zip(*rows, strict=True)
    image.proposal_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    image.gt_boxes = Boxes(torch.tensor(targets, dtype=torch.float32))
    image.gt_classes = torch.tensor(classes)
    image.gt_has_partner = torch.tensor(partners)
    image.gt_keypoints = Keypoints(
        torch.tensor([[[x, y, 2.0]] for x, y in points], dtype=torch.float32)
    )
    image.number = torch.arange(len(rows))
    return image


ROWS = [
    ((0, 0, 10, 10), (0, 0, 10, 10), 3, True, (5, 5)),  # 0 the item's own box
    ((0, 0, 10, 7.2), (0, 0, 10, 10), 3, True, (5, 5)),  # 1 IoU .72
    ((0, 0, 10, 7.0), (0, 0, 10, 10), 3, True, (5, 5)),  # 2 IoU .70 is not more than .7
    ((0, 0, 10, 10), (0, 0, 10, 10), 3, False, (5, 5)),  # 3 no partner
    ((0, 0, 10, 10), (0, 0, 10, 10), 13, True, (5, 5)),  # 4 labelled background
    ((0, 0, 10, 10), (0, 0, 10, 10), 3, True, (50, 50)),  # 5 no landmark inside
]


def select(rois, with_landmarks):
    covered = landmark_inside if with_landmarks else None
    source = PooledFeatures([], None, None, ShapeSpec(), covered)
    stream = MatchStream(sources={"some": source}, head=torch.nn.Identity(), num_classes=13)
    return take(rois, stream.rows_to_learn_from(rois))


@pytest.mark.parametrize(("with_landmarks", "expected"), [(False, [0, 1, 5]), (True, [0, 1])])
def test_rois_are_those_of_items_of_interest(with_landmarks, expected):
    (kept,) = select([proposals_of(*ROWS)], with_landmarks)
    assert kept.number.tolist() == expected


def test_at_most_so_many_rois_an_image_and_images_without_ground_truth_pass():
    empty = Instances((100, 100))
    empty.proposal_boxes = Boxes(torch.zeros(3, 4))
    empty.gt_classes = torch.full((3,), 13)
    kept = select([proposals_of(*ROWS[:2] * 10), empty], with_landmarks=True)
    assert [len(image) for image in kept] == [8, 0]
    assert len(set(kept[0].number.tolist())) == 8


SIMILARITIES = ("RegionGraph", "PairNetwork")


def make_head_with(name, variant="pose+class", **keys):
    """A head with a similarity, and the same without it."""
    cfg = get_match_rcnn_cfg()
    node = cfg.MODEL.ROI_MATCH_HEAD
    node.CONV_DIMS, node.EMBEDDING_DIM = [8, 8, 8, 16], 4
    node.SIMILARITY.NAME = name
    node.SIMILARITY.GRAPH.REGION_DIM = node.SIMILARITY.GRAPH.NODE_DIM = 6
    node.SIMILARITY.PAIR.HIDDEN_DIMS = [5]
    for key, value in keys.items():
        cfg.merge_from_list([f"MODEL.ROI_MATCH_HEAD.SIMILARITY.{key}", value])
    torch.manual_seed(0)
    return SiameseMatchHead(cfg, {name: SHAPES[name] for name in variant.split("+")})


def with_classes(images, classes=3):
    for image in images:
        image.gt_classes = torch.arange(len(image)) % classes
    return images


def test_the_product_needs_nothing_more():
    plain = make_head_with("ProductSimilarity")
    assert plain.similarity is None
    assert not [name for name in plain.state_dict() if "similarity" in name]
    beside = make_head_with("RegionGraph")
    own = {n: v for n, v in beside.state_dict().items() if not n.startswith("similarity.")}
    assert own.keys() == plain.state_dict().keys()
    # The extractor is drawn first, so that a similarity changes nothing of what it starts from.
    assert all(torch.equal(own[n], v) for n, v in plain.state_dict().items())
    features = make_features("pose+class", 4)
    with EventStorage():
        one, other = plain(features, PAIR), beside(features, PAIR)
    assert one.keys() == {"loss_match"}
    assert other.keys() == {"loss_match", "loss_similarity"}
    assert one["loss_match"].item() == other["loss_match"].item()


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("per_category", [False, True])
def test_a_similarity_learns_from_pairs_end_to_end(name, per_category):
    head = make_head_with(name, **{"PAIR.PER_CATEGORY": per_category})
    features = make_features("pose+class", 4)
    with EventStorage():
        losses = head(features, with_classes(PAIR))
    losses["loss_similarity"].backward()
    assert losses["loss_similarity"] > 0
    # A category's copy is learned upon shared weights that rest.
    assert all(p.grad is not None for p in head.parameters() if p.requires_grad)
    assert all(f.grad.abs().sum() > 0 for f in features.values())
    # Down to the first convolution, which both losses share.
    assert head.convs[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", SIMILARITIES)
def test_the_loss_is_that_of_pairs_one_by_one(name):
    head = make_head_with(name, NEGATIVES=0, WEIGHT=0.5)
    features = make_features("pose+class", 4)
    with EventStorage():
        loss = head(features, PAIR)["loss_similarity"]
    described = head.describe(features)  # batch norm takes the same batch again
    described["vector"] = described["embedding"]
    # Two of a user (products 7/1, 7/2), two of shops (7/1, 8/1); 7/2 has no partner to be found.
    values = []
    for user, shop, same in ((0, 2, True), (0, 3, False)):
        query = {n: described[n][user][None] for n in head.similarity.features()}
        item = {n: described[n][shop][None, None] for n in head.similarity.features()}
        logit = head.similarity(query, item)[0, 0]
        values.append(torch.nn.functional.softplus(-logit if same else logit))
    assert loss.item() == pytest.approx(0.5 * torch.stack(values).mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(
    "images",
    [[], [image_of(USER)], [image_of(USER, (1, 1))], [image_of(USER, (1, 1), (1, 2))]],
    ids=["no image", "no roi", "one roi", "no shop"],
)
def test_a_similarity_without_pairs_is_zero_with_gradients(name, images):
    head = make_head_with(name)
    features = make_features("pose+class", sum(len(i) for i in images))
    with EventStorage():
        losses = head(features, images)
    sum(losses.values()).backward()
    assert losses["loss_similarity"].item() == 0
    assert all(p.grad is not None for p in head.parameters())


def test_instances_carry_what_a_similarity_compares(monkeypatch):
    monkeypatch.setattr("match_rcnn.modeling.streams.match_head.ROIS_PER_CHUNK", 2)
    features = {name: value.detach() for name, value in make_features("pose+class", 5).items()}

    def found(head):
        images = [Instances((9, 9), pred_classes=torch.arange(n)) for n in (2, 0, 3)]
        with torch.no_grad():
            return head.eval()(features, images)

    graph = make_head_with("RegionGraph")
    images = found(graph)
    assert [tuple(image.regions.shape) for image in images] == [(2, 21, 6), (0, 21, 6), (3, 21, 6)]
    assert {image.regions.dtype for image in images} == {torch.float16}
    regions = torch.cat([image.regions for image in images]).float()
    with torch.no_grad():
        expected = graph.describe(features)
    assert torch.allclose(regions, expected["regions"], atol=1e-3)
    plain = found(make_head_with("ProductSimilarity"))
    for image, other in zip(images, plain, strict=True):
        assert torch.equal(image.embedding, other.embedding)
        assert not other.has("regions")
    copies = found(make_head_with("PairNetwork", **{"PAIR.PER_CATEGORY": True}))
    assert [image.category.tolist() for image in copies] == [[0, 1], [], [0, 1, 2]]


def test_a_graph_needs_maps():
    with pytest.raises(ValueError, match="RegionGraph needs maps"):
        make_head_with("RegionGraph", "class")
