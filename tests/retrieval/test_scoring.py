import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.modeling.streams.match_losses import PairCrossEntropy
from match_rcnn.retrieval.scoring import MatchScorer, PreparedGallery, PreparedQueries


def random(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_a_score_by_hand():
    scorer = MatchScorer(torch.tensor([1.0, -2.0]), 0.5)
    queries, gallery = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 1.0]])
    # 1 * 2^2 - 2 * 1^2 + 0.5 and 1 * 3^2 - 2 * 1^2 + 0.5
    found = scorer.top_k(queries, gallery, 1)
    assert found.scores.tolist() == [[2.5], [7.5]]
    assert found.indices.tolist() == [[0], [0]]


def test_it_is_the_match_network():
    classifier = PairCrossEntropy(8)
    weight, bias, queries, gallery = random(0, (2, 8), 2, (3, 8), (5, 8))
    classifier.load_state_dict({"fc.weight": 0.1 * weight, "fc.bias": bias})
    logits = classifier.logits(queries, gallery).detach()
    found = MatchScorer(*classifier.score_weights()).top_k(queries, gallery, 5)
    best = (logits[..., 1] - logits[..., 0]).sort(1, descending=True)
    torch.testing.assert_close(found.scores, best.values.double(), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.indices, best.indices)
    # The softmax's probability of "similar" is in the same order.
    assert torch.equal(logits.softmax(-1)[..., 1].argsort(1, descending=True), found.indices)


def test_euclidean_orders_unit_vectors_as_the_cosine():
    queries, gallery = (torch.nn.functional.normalize(x) for x in random(1, (6, 16), (200, 16)))
    found = MatchScorer.euclidean(16).top_k(queries, gallery, 7)
    assert torch.equal(found.indices, (queries @ gallery.T).topk(7).indices)


def test_float32_error_is_small_far_from_zero(reference):
    """Where the expansion as it is written loses all digits."""
    weight, queries, gallery = random(2, 256, (20, 256), (300, 256))
    queries, gallery = 1000 + queries, 1000 + gallery
    expected = reference.scores(weight, 0.0, queries, gallery)
    w = weight
    naive = (queries**2 @ w)[:, None] - 2 * (queries * w) @ gallery.T + gallery**2 @ w
    prepared = MatchScorer(weight).prepare(gallery)
    moved = PreparedQueries(queries, prepared)
    ((_, items),) = prepared.tiles(torch.float32, 300)
    ours = (moved.vectors(torch.float32) @ items.T).double() + moved.offsets[:, None]
    naive_error, error = ((x - expected).abs().max().item() for x in (naive, ours))
    spread = expected.std().item()
    assert naive_error > 0.3 * spread
    assert error < 1e-5 * spread
    top = MatchScorer(weight).top_k(queries, gallery, 20)
    assert torch.equal(top.indices, reference.top(expected, 20))
    assert not torch.equal(naive.topk(20).indices, top.indices)
    torch.testing.assert_close(top.scores, expected.gather(1, top.indices), rtol=1e-13, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 300), st.integers(1, 40)),
    k=st.integers(1, 40),
    kinds=st.integers(1, 400),
    shift=st.sampled_from([0.0, 10.0, 1e4]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_order_is_that_of_float64(reference, seed, sizes, k, kinds, shift, dtype):
    num_queries, num_items, dim = sizes
    weight, queries, prototypes = random(seed, dim, (num_queries, dim), (kinds, dim))
    chosen = torch.randint(kinds, (num_items,), generator=torch.Generator().manual_seed(seed))
    gallery = prototypes[chosen] + shift  # equal items are common
    queries, gallery = (queries + shift).to(dtype), gallery.to(dtype)
    found = MatchScorer(weight, -1.5).top_k(queries, gallery, k)
    expected = reference.scores(weight, -1.5, queries, gallery)
    assert torch.equal(found.indices, reference.top(expected, k))
    assert found.indices.shape == (num_queries, min(k, num_items))
    torch.testing.assert_close(
        found.scores, expected.gather(1, found.indices), rtol=1e-12, atol=1e-12
    )


def test_many_blocks(reference, small_blocks):
    small_blocks()
    weight, queries, gallery = random(5, 12, (37, 12), (1000, 12))
    scorer = MatchScorer(weight)
    expected = reference.scores(weight, 0.0, queries, gallery)
    assert torch.equal(scorer.top_k(queries, gallery, 9).indices, reference.top(expected, 9))


def test_a_collapsed_model_gives_the_first_items():
    found = MatchScorer.euclidean(4).top_k(torch.ones(3, 4), torch.ones(500, 4), 6)
    assert found.indices.tolist() == [list(range(6))] * 3
    assert found.scores.eq(0).all()


def test_zero_weights_tie_everything():
    found = MatchScorer(torch.zeros(3), 2.0).top_k(*random(6, (2, 3), (70, 3)), 4)
    assert found.indices.tolist() == [[0, 1, 2, 3]] * 2
    assert found.scores.eq(2).all()


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_product_in_fewer_bits_changes_no_result(reference, precision):
    weight, queries, gallery = random(7, 64, (20, 64), (800, 64))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = MatchScorer(weight).top_k(queries, gallery, 10)
    finally:
        torch.set_float32_matmul_precision(before)
    expected = reference.scores(weight, 0.0, queries, gallery)
    assert torch.equal(found.indices, reference.top(expected, 10))


def test_autocast_changes_no_result():
    weight, queries, gallery = random(8, 64, (20, 64), (800, 64))
    scorer = MatchScorer(weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = scorer.top_k(queries, gallery, 10)
    assert torch.equal(found.indices, scorer.top_k(queries, gallery, 10).indices)


def test_nothing_to_search():
    scorer = MatchScorer.euclidean(3)
    assert scorer.top_k(torch.zeros(0, 3), torch.zeros(5, 3), 2).indices.shape == (0, 2)
    assert scorer.top_k(torch.zeros(4, 3), torch.zeros(0, 3), 2).scores.shape == (4, 0)
    assert len(scorer.prepare(torch.zeros(0, 3), keep=True)) == 0


@pytest.mark.parametrize("keep", [False, True])
def test_a_prepared_gallery(reference, small_blocks, keep):
    small_blocks()
    weight, queries, gallery = random(9, 12, (5, 12), (300, 12))
    scorer = MatchScorer(weight)
    prepared = scorer.prepare(gallery, keep=keep)
    assert isinstance(prepared, PreparedGallery)
    expected = reference.top(reference.scores(weight, 0.0, queries, gallery), 4)
    assert torch.equal(scorer.top_k(queries, prepared, 4).indices, expected)
    assert torch.equal(scorer.top_k(queries[:1], prepared, 4).indices, expected[:1])
    with pytest.raises(ValueError, match="another scorer"):
        MatchScorer(weight).top_k(queries, prepared, 4)


def test_numpy_and_memory_maps(tmp_path, reference):
    weight, queries, gallery = (x.numpy() for x in random(10, 6, (4, 6), (50, 6)))
    path = tmp_path / "gallery.npy"
    np.save(path, gallery)
    found = MatchScorer(weight).top_k(queries, np.load(path, mmap_mode="r"), 3)
    scores = reference.scores(
        *map(torch.from_numpy, (weight,)), 0.0, *map(torch.from_numpy, (queries, gallery))
    )
    assert torch.equal(found.indices, reference.top(scores, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.top_k(torch.zeros(2, 3), torch.zeros(2, 3), 0), "k must be at least 1"),
        (lambda s: s.top_k(torch.zeros(2, 4), torch.zeros(2, 3), 1), r"queries of shape \(n, 3\)"),
        (lambda s: s.top_k(torch.zeros(2, 3), torch.zeros(3), 1), r"gallery of shape \(n, 3\)"),
        (lambda s: s.top_k(torch.zeros(2, 3).int(), torch.zeros(2, 3), 1), "floating type"),
        (lambda s: s.top_k(torch.full((2, 3), torch.nan), torch.zeros(2, 3), 1), "queries hold"),
        (lambda s: s.top_k(torch.zeros(2, 3), torch.full((2, 3), torch.inf), 1), "gallery holds"),
        (lambda s: MatchScorer(torch.zeros(2, 3)), "finite weights"),
        (lambda s: MatchScorer(torch.tensor([1.0, torch.nan])), "finite weights"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(MatchScorer.euclidean(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("where", ["both", "queries", "gallery prepared there"])
def test_on_a_gpu(reference, where):
    weight, queries, gallery = random(12, 128, (300, 128), (5000, 128))
    expected = reference.top(reference.scores(weight, 0.0, queries, gallery), 20)
    scorer = MatchScorer(weight)
    if where == "gallery prepared there":
        found = scorer.top_k(queries, scorer.prepare(gallery, "cuda", keep=True), 20)
    else:
        found = scorer.top_k(queries.cuda(), gallery.cuda() if where == "both" else gallery, 20)
    assert found.indices.is_cuda
    assert torch.equal(found.indices.cpu(), expected)
