"""Cross-GPU negatives, in two real processes (gloo)."""

import sys

import pytest
import torch

LOSSES = ("pair_ce", "triplet", "contrastive", "info_nce", "graph")

# What both processes run. A file of its own, since spawned processes import it by name.
WORKER = '''
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from match_rcnn.d2 import EventStorage, Instances, ShapeSpec
from match_rcnn.modeling.similarity import RegionGraph
from match_rcnn.modeling.streams.match_head import SiameseMatchHead
from match_rcnn.modeling.streams.match_losses import (
    Contrastive,
    InfoNCE,
    PairCrossEntropy,
    Triplet,
)

LOSSES = {
    "pair_ce": PairCrossEntropy,
    "triplet": lambda dim: Triplet(dim, margin=1.0),
    "contrastive": lambda dim: Contrastive(dim, margin=1.0),
    "info_nce": InfoNCE,
    "graph": PairCrossEntropy,  # and a similarity beside it
}
USER, SHOP = 0, 1
#: (source, pair id, style) of the RoIs of each process, an image a list. No process has a pair
#: of its own in the first case, and one has no RoI at all in the second.
CASES = {
    "split pairs": (
        [[(USER, 7, 1), (USER, 7, 2)], [(USER, 8, 1)]],
        [[(SHOP, 7, 1)], [], [(SHOP, 8, 1), (SHOP, 7, 2)], [(SHOP, 9, 1)]],
    ),
    "empty process": (
        [[]],
        [[(USER, 7, 1)], [(SHOP, 7, 1), (SHOP, 8, 1)]],
    ),
}


def instances_of(rois):
    image = Instances((50, 50))
    columns = torch.tensor(rois, dtype=torch.int64).reshape(-1, 3)
    image.gt_sources, image.gt_pair_ids, image.gt_styles = columns.unbind(1)
    return image


def graph(dim, shape):
    sizes = {"region_dim": 3, "node_dim": 4, "steps": 1}
    return RegionGraph(channels=shape.channels, scales=(1, 2), **sizes)


def make_head(loss):
    torch.manual_seed(0)
    shapes = {"pose": ShapeSpec(channels=3, height=4, width=4), "class": ShapeSpec(channels=4)}
    sizes = {"conv_dims": (6, 8), "embedding_dim": 5, "gather_negatives": True}
    beside = graph if loss == "graph" else None
    head = SiameseMatchHead(shapes, loss=LOSSES[loss], similarity=beside, **sizes)
    head.norm.eval()  # its statistics are a process's own, as everywhere in the model
    return head


def features_of(case):
    """Of the RoIs of all processes, and how many each has."""
    torch.manual_seed(1)
    counts = [sum(map(len, images)) for images in CASES[case]]
    total = sum(counts)
    return {"pose": torch.randn(total, 3, 4, 4), "class": torch.randn(total, 4)}, counts


def measure(head, features, images):
    for feature in features.values():
        feature.requires_grad_()
    with EventStorage():
        loss = sum(head(features, [instances_of(rois) for rois in images]).values())
    loss.backward()
    gradients = {name: p.grad for name, p in getattr(head, "module", head).named_parameters()}
    rows = {name: feature.grad for name, feature in features.items()}
    return loss.item(), gradients, rows


def as_one(loss, case):
    images = [rois for part in CASES[case] for rois in part]
    return measure(make_head(loss), features_of(case)[0], images)


def work(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.set_num_threads(1)
    found = {}
    for loss in LOSSES:
        for case in CASES:
            features, counts = features_of(case)
            own = {k: v.split(counts)[rank].clone() for k, v in features.items()}
            head = DistributedDataParallel(make_head(loss))
            found[loss, case] = measure(head, own, CASES[case][rank])
    torch.save(found, f"{folder}/{rank}.pth")
    dist.barrier()
    dist.destroy_process_group()
'''


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    (folder / "gather_worker.py").write_text(WORKER)
    sys.path.insert(0, str(folder))
    import gather_worker

    yield gather_worker
    sys.path.remove(str(folder))
    del sys.modules["gather_worker"]


@pytest.fixture(scope="module")
def found(worker, tmp_path_factory):
    """What each of two processes measured."""
    folder = tmp_path_factory.mktemp("found")
    torch.multiprocessing.spawn(worker.work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)]


@pytest.mark.parametrize("case", ["split pairs", "empty process"])
@pytest.mark.parametrize("loss", LOSSES)
def test_two_processes_learn_as_one_with_the_joined_batch(
    loss, case, worker, found, assert_gradients_close
):
    value, gradients, rows = worker.as_one(loss, case)
    assert value > 0
    counts = worker.features_of(case)[1]
    for rank, part in enumerate(found):
        own_value, own_gradients, own_rows = part[loss, case]
        assert own_value == pytest.approx(value, rel=1e-5)
        assert_gradients_close(own_gradients, gradients, relative=1e-4)
        # The mean over processes comes only with the parameters.
        joined = {name: expected.split(counts)[rank] for name, expected in rows.items()}
        halves = {name: row / 2 for name, row in own_rows.items()}
        assert_gradients_close(halves, joined, relative=1e-4)
    assert max(g.abs().max() for g in gradients.values()) > 1e-3
