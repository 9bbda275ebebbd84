import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from match_rcnn.d2 import Boxes, Instances, MetadataCatalog
from match_rcnn.evaluation.retrieval import evaluator as retrieval_evaluator
from match_rcnn.evaluation.retrieval.evaluator import RetrievalEvaluator
from match_rcnn.evaluation.retrieval.files import (
    read_retrieval_truth,
    read_retrieved,
)
from match_rcnn.evaluation.retrieval.protocol import score_retrieval
from match_rcnn.evaluation.submission import check_results
from match_rcnn.modeling.similarity import Similarity
from match_rcnn.retrieval.scoring import MatchScorer

HEIGHT, WIDTH = 100, 200
PRODUCTS = 6
EUCLIDEAN = MatchScorer.euclidean(PRODUCTS)


class World:
    """Per product, user photo ``i`` and shop photos ``100 + i`` and ``200 + i``; each photo shows
    the product (style 1, class i % 13) and trousers of style 0. A product's embedding is its unit
    vector, trousers' is 0."""

    def __init__(self, folder):
        self.annotations, images = [], []
        for product in range(PRODUCTS):
            for base, source in ((0, "user"), (100, "shop"), (200, "shop")):
                image_id = base + product + 1
                images.append({"id": image_id, "source": source, "pair_id": product})
                self._add(image_id, product, [10, 10, 50, 60], product % 13 + 1, 1)
                self._add(image_id, product, [110, 20, 40, 70], 8, 0)
        self.image_ids = [image["id"] for image in images]
        self.path = folder / "gt.json"
        self.path.write_text(json.dumps({"images": images, "annotations": self.annotations}))
        self.name = f"retrieval_{folder.name}"
        MetadataCatalog.get(self.name).set(json_file=str(self.path))

    def _add(self, image_id, product, bbox, category_id, style):
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "pair_id": product,
                "bbox": bbox,
                "category_id": category_id,
                "style": style,
                "occlusion": product % 2 + 1,
            }
        )

    def items(self, image_id):
        return [a for a in self.annotations if a["image_id"] == image_id]

    def vector(self, item):
        return torch.eye(PRODUCTS)[item["pair_id"]] * item["style"]

    def detections(self, image_id):
        """A perfect model's."""
        items = self.items(image_id)
        boxes = torch.tensor([i["bbox"] for i in items], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        instances = Instances((HEIGHT, WIDTH))
        instances.pred_boxes = Boxes(boxes)
        instances.pred_classes = torch.tensor([i["category_id"] - 1 for i in items])
        instances.scores = torch.tensor([0.9, 0.8])
        instances.embedding = torch.stack([self.vector(i) for i in items])
        return instances

    def dataset_dict(self, image_id):
        # The network sees the image at half size.
        image = torch.zeros(3, HEIGHT // 2, WIDTH // 2)
        return {"image_id": image_id, "height": HEIGHT, "width": WIDTH, "image": image}

    def run(self, evaluator, change=lambda image_id, instances: instances, image_ids=None):
        evaluator.reset()
        for image_id in image_ids or self.image_ids:
            instances = change(image_id, self.detections(image_id))
            evaluator.process([self.dataset_dict(image_id)], [{"instances": instances}])
        return evaluator.evaluate()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_perfect_model(world, tmp_path):
    evaluator = RetrievalEvaluator(world.name, EUCLIDEAN, output_dir=tmp_path, device="cpu")
    results = world.run(evaluator)
    assert list(results) == ["retrieval"]
    metrics = results["retrieval"]
    assert all(metrics[f"top{k}"] == 100 for k in (1, 5, 10, 15, 20))
    assert metrics["queries"] == PRODUCTS
    assert metrics["missed"] == metrics["missed_official"] == metrics["without_partner"] == 0
    assert metrics["top1-occlusion-slight"] == metrics["top20-occlusion-medium"] == 100
    assert "top1-occlusion-heavy" not in metrics
    assert all(type(value) is float for value in metrics.values())


def test_the_written_file_gives_the_same_numbers(world, tmp_path):
    rng = np.random.default_rng(0)

    def blur(image_id, instances):
        noise = torch.from_numpy(rng.normal(0, 0.5, (2, PRODUCTS))).float()
        instances.embedding = instances.embedding + noise
        moved = instances.pred_boxes.tensor + torch.from_numpy(rng.normal(0, 9, (2, 4))).float()
        instances.pred_boxes = Boxes(moved)
        return instances

    evaluator = RetrievalEvaluator(world.name, EUCLIDEAN, output_dir=tmp_path, device="cpu")
    metrics = world.run(evaluator, blur)["retrieval"]
    truth = read_retrieval_truth(world.path)
    found = read_retrieved(tmp_path / "retrieval_results.json")
    again = score_retrieval(truth.queries, truth.gallery, found)
    assert {f"top{k}": 100 * v for k, v in again.accuracy().items()} == {
        f"top{k}": metrics[f"top{k}"] for k in (1, 5, 10, 15, 20)
    }
    assert 0 < metrics["top1"] < 100
    # Trousers of style 0 are not asked for, but in the gallery they are in the way.
    assert sorted(found.classes.tolist()) == list(range(1, PRODUCTS + 1))
    assert (found.gallery_boxes[..., 0] > 80).any()
    assert set(found.image_ids.tolist()) == set(range(1, PRODUCTS + 1))
    assert set(found.gallery_image_ids.reshape(-1).tolist()) <= set(world.image_ids[1:]) - set(
        range(1, PRODUCTS + 1)
    )


def test_missed_queries(world):
    def lose(image_id, instances):
        if image_id == 1:  # nothing found
            return instances[:0]
        if image_id == 2:  # the product is not found
            return instances[1:]
        return instances

    metrics = world.run(RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu"), lose)["retrieval"]
    assert (metrics["missed"], metrics["missed_official"]) == (2, 1)
    assert metrics["top20"] == pytest.approx(100 * (PRODUCTS - 2) / PRODUCTS)


def test_the_scorer_decides_and_is_asked_at_the_end(world):
    asked = []

    def scorer():
        asked.append(True)
        return MatchScorer(torch.ones(PRODUCTS))  # the farthest first

    evaluator = RetrievalEvaluator(world.name, scorer, device="cpu")
    assert asked == []
    metrics = world.run(evaluator)["retrieval"]
    assert asked == [True]
    assert metrics["top1"] == 0


@pytest.mark.parametrize(
    ("settings", "found"),
    [({}, 2), ({"max_detections": 1}, 1), ({"min_score": 0.85}, 1), ({"min_score": 0.95}, 0)],
)
def test_which_detections_take_part(world, tmp_path, settings, found):
    evaluator = RetrievalEvaluator(
        world.name, EUCLIDEAN, output_dir=tmp_path, device="cpu", **settings
    )
    metrics = world.run(evaluator)["retrieval"]
    written = read_retrieved(tmp_path / "retrieval_results.json")
    assert len(written.image_ids) == (PRODUCTS if found else 0)
    assert all(written.lengths == min(20, found * 2 * PRODUCTS))
    assert metrics["missed"] == (0 if found else PRODUCTS)


def images_only(world):
    value = json.loads(world.path.read_text())
    del value["annotations"]
    world.path.write_text(json.dumps(value))


def no_file(world):
    world.name += "_without_file"


@pytest.mark.parametrize("truth", [images_only, no_file])
def test_a_test_set(world, tmp_path, monkeypatch, truth, caplog):
    """Everything that was found is searched for; which photos are whose is told by the images of
    the file or by the dataset dicts."""
    truth(world)
    dataset_dict = world.dataset_dict
    if truth is no_file:
        told = {i: {"source": "user" if i < 100 else "shop"} for i in world.image_ids}
        monkeypatch.setattr(world, "dataset_dict", lambda i: {**dataset_dict(i), **told[i]})
    evaluator = RetrievalEvaluator(
        world.name, EUCLIDEAN, output_dir=tmp_path, device="cpu", embed_boxes=half_size(world)
    )
    with caplog.at_level("INFO"):
        assert world.run(evaluator) == {}
    assert "no annotations: retrieval is not scored" in caplog.text
    assert not (tmp_path / "retrieval_gt_boxes_results.json").exists()
    path = tmp_path / "retrieval_results.json"
    found = read_retrieved(path)
    assert len(found.image_ids) == 2 * PRODUCTS
    assert set(found.classes.tolist()) == {*range(1, PRODUCTS + 1), 8}
    products = found.classes == found.image_ids
    expected = [[100 + i, 200 + i] for i in found.image_ids[products].tolist()]
    assert np.sort(found.gallery_image_ids[products, :2]).tolist() == expected
    assert check_results(path, "retrieval").accepted


def half_size(world):
    """A model on given boxes that cannot tell where it looks but by them."""

    def embed(inputs, given):
        answers = []
        for image, instances in zip(inputs, given, strict=True):
            items = world.items(image["image_id"])
            assert instances.image_size == (HEIGHT // 2, WIDTH // 2)
            expected = torch.tensor([i["bbox"] for i in items], dtype=torch.float32) / 2
            expected[:, 2:] += expected[:, :2]
            torch.testing.assert_close(instances.pred_boxes.tensor, expected)
            assert instances.pred_classes.tolist() == [i["category_id"] - 1 for i in items]
            instances.embedding = torch.stack([world.vector(i) for i in items])
            answers.append(instances[torch.tensor([1, 0])])  # any order will do
        return answers

    return embed


def test_ground_truth_boxes(world):
    evaluator = RetrievalEvaluator(
        world.name, EUCLIDEAN, embed_boxes=half_size(world), device="cpu"
    )
    results = world.run(evaluator, lambda image_id, instances: instances[:0])
    assert results["retrieval"]["top20"] == 0
    assert results["retrieval_gt_boxes"]["top1"] == 100
    assert results["retrieval_gt_boxes"]["missed"] == 0


def test_ground_truth_boxes_by_subset_and_as_a_file(world, tmp_path, caplog):
    """Occlusion is slight and medium in turn; the first product has six matching gallery items."""
    value = json.loads(world.path.read_text())
    shop_items = [a for a in value["annotations"] if a["image_id"] in (101, 201) and a["style"]]
    value["annotations"] += [{**item, "id": 100 + i} for i, item in enumerate(shop_items * 2)]
    world.path.write_text(json.dumps(value))

    def embed(inputs, given):
        for image, instances in zip(inputs, given, strict=True):
            # Photo 2, whose product is of medium occlusion, is mistaken for one of product 4.
            product = 4 if image["image_id"] == 2 else image["image_id"] % 100 - 1
            instances.embedding = torch.eye(PRODUCTS)[[product] * len(instances)]
        return given

    evaluator = RetrievalEvaluator(
        world.name, EUCLIDEAN, output_dir=tmp_path, device="cpu", embed_boxes=embed
    )
    with caplog.at_level("INFO"):
        metrics = world.run(evaluator)["retrieval_gt_boxes"]
    assert metrics["top1"] == pytest.approx(100 * 5 / 6)
    assert metrics["top1-occlusion-slight"] == 100
    assert metrics["top1-occlusion-medium"] == pytest.approx(100 * 2 / 3)
    assert metrics["top1-more_than_five"] == metrics["top20-more_than_five"] == 100
    again = score_retrieval(
        evaluator._truth.queries,
        evaluator._truth.gallery,
        read_retrieved(tmp_path / "retrieval_gt_boxes_results.json"),
    )
    assert again.accuracy()[1] == pytest.approx(5 / 6)
    rows = [line.split() for line in caplog.text.splitlines() if "top-1 " in line]
    assert ["top-1", "retrieval_gt_boxes", *["nan"] * 3, "1.000", "0.667"] == rows[-1][:7]
    assert rows[-1][-2:] == ["0.833", "1.000"]


def test_images_without_items_are_not_embedded(world):
    def embed(inputs, given):
        raise AssertionError("called")

    evaluator = RetrievalEvaluator(world.name, EUCLIDEAN, embed_boxes=embed, device="cpu")
    evaluator.process([world.dataset_dict(999)], [{"instances": world.detections(1)[:0]}])


def test_several_processes(world, monkeypatch):
    """Each takes every other image; the main one gets both parts."""
    parts = []
    fake = SimpleNamespace(
        synchronize=lambda: None,
        gather=lambda part, dst: parts.append(part) or [],
        is_main_process=lambda: False,
    )
    monkeypatch.setattr(retrieval_evaluator, "comm", fake)
    other = RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu")
    assert world.run(other, image_ids=world.image_ids[1::2]) == {}
    fake.gather = lambda part, dst: [part, parts.pop(0)]
    fake.is_main_process = lambda: True
    main = RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu")
    results = world.run(main, image_ids=world.image_ids[::2])
    monkeypatch.undo()
    assert results == world.run(RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu"))


def test_no_source_no_score(world, caplog):
    value = json.loads(world.path.read_text())
    for image in value["images"]:
        del image["source"]
    world.path.write_text(json.dumps(value))
    assert world.run(RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu")) == {}
    assert "retrieval is not scored" in caplog.text


def test_a_model_without_embeddings(world):
    instances = world.detections(1)
    instances.remove("embedding")
    evaluator = RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu")
    with pytest.raises(ValueError, match="MATCH_ON"):
        evaluator.process([world.dataset_dict(1)], [{"instances": instances}])


def test_reset_forgets(world):
    evaluator = RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu")
    world.run(evaluator)
    evaluator.reset()
    assert evaluator.evaluate()["retrieval"]["missed"] == PRODUCTS


class Opposite(Similarity):
    """Prefers what the product thinks little of: its features are the negative vectors."""

    def features(self):
        return {"vector": (PRODUCTS,), "own": (2, PRODUCTS)}

    def forward(self, queries, items):
        apart = queries["own"][:, None] - items["own"]
        return -apart.square().sum((2, 3)) + 0 * items["vector"].sum(-1)


def with_features(change):
    """Embeddings that say nothing of most products; features that do."""

    def changed(image_id, instances):
        own = instances.embedding[:, None] * torch.tensor([1.0, -1.0])[:, None]
        instances.own = own.half()
        instances.embedding = instances.embedding * change
        return instances

    return changed


def test_a_similarity_orders_the_shortlist(world, tmp_path):
    mute = torch.zeros(PRODUCTS)
    mute[0] = 1  # all other products look like trousers
    evaluator = RetrievalEvaluator(
        world.name,
        EUCLIDEAN,
        output_dir=tmp_path,
        device="cpu",
        similarity=Opposite(),
        shortlist=12,
    )
    results = world.run(evaluator, with_features(mute))
    assert list(results) == ["retrieval", "retrieval_product"]
    # Of 24 garments in shops, product 0's two are far from the others' queries, and 22 tie: the
    # first 12 of them are photos 101 to 106, without 101's product, and trousers.
    assert results["retrieval_product"]["shortlist_recall"] == 100
    assert results["retrieval"]["top1"] == 100
    assert results["retrieval_product"]["top1"] == pytest.approx(100 / 6)
    # What is written is the similarity's order.
    truth = read_retrieval_truth(world.path)
    found = read_retrieved(tmp_path / "retrieval_results.json")
    assert score_retrieval(truth.queries, truth.gallery, found).accuracy()[1] == 1
    assert len(found.gallery_image_ids[0]) == 20


def test_the_shortlist_bounds_what_a_similarity_reaches(world):
    evaluator = RetrievalEvaluator(
        world.name, EUCLIDEAN, device="cpu", similarity=Opposite(), shortlist=4
    )
    results = world.run(evaluator, with_features(torch.zeros(PRODUCTS)))
    # All tie: the first four garments are products 0 and 1 of photos 101, 102, and trousers.
    assert results["retrieval_product"]["shortlist_recall"] == pytest.approx(200 / 6)
    assert results["retrieval"]["top1"] == pytest.approx(200 / 6)
    assert results["retrieval_product"]["top1"] == pytest.approx(100 / 6)
    assert results["retrieval"]["queries"] == results["retrieval_product"]["queries"] == PRODUCTS


def test_without_a_query_two_stages_score_nothing(world):
    evaluator = RetrievalEvaluator(world.name, EUCLIDEAN, device="cpu", similarity=Opposite())
    users = [i for i in world.image_ids if i < 100]
    lose = lambda image_id, instances: with_features(1)(image_id, instances)[:0]  # noqa: E731
    assert world.run(evaluator, lose)["retrieval"]["missed"] == PRODUCTS
    assert world.run(evaluator, with_features(1), users)["retrieval"]["top20"] == 0


def test_a_missing_feature_is_named(world):
    evaluator = RetrievalEvaluator(world.name, EUCLIDEAN, similarity=Opposite())
    with pytest.raises(ValueError, match="retrieval needs the field 'own'"):
        world.run(evaluator)
