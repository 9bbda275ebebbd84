import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.retrieval import scoring
from match_rcnn.retrieval.scoring import (
    MatchScorer,
    PreparedQueries,
    proven_top_k,
    rounding_error,
)


def make(seed, queries, items, dim, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    q, g = (torch.randn(n, dim, generator=generator) * scale + shift for n in (queries, items))
    gallery = MatchScorer(torch.randn(dim, generator=generator), 0.5).prepare(g)
    return PreparedQueries(q, gallery), gallery


def exact(reference, queries, gallery):
    score = gallery.scorer
    return reference.scores(score.weight, score.bias, queries.rows, gallery.rows)


def passes(monkeypatch):
    """Which kinds of pass over the gallery were made, in order."""
    made = []
    inner = scoring.running_top

    def spy(vectors, tiles, k, key=None):
        made.append(("ties" if key else str(vectors.dtype).split(".")[-1], len(vectors)))
        return inner(vectors, tiles, k, key)

    monkeypatch.setattr(scoring, "running_top", spy)
    return made


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dim=st.integers(1, 300),
    shift=st.sampled_from([0.0, 3.0, 1e3]),
    scale=st.sampled_from([1e-15, 1e-3, 1.0, 1e4, 1e15, 1e17]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_bound_holds(reference, seed, dim, shift, scale, dtype):
    queries, gallery = make(seed, 5, 40, dim, shift * scale, scale)
    ((_, items),) = gallery.tiles(dtype, 40)
    product = (queries.vectors(dtype) @ items.T).double() + queries.offsets[:, None]
    error = rounding_error(queries, gallery, dtype)
    off = (product - exact(reference, queries, gallery)).abs().amax(1)
    # Twice the size of float64's own rounding: the reference is not without error.
    assert ((off <= error) | torch.isinf(error)).all()
    assert scale > 1e10 or torch.isfinite(error).all()


def test_clear_cases_need_one_pass(reference, monkeypatch):
    made = passes(monkeypatch)
    queries, gallery = make(0, 30, 900, 64)
    scores, indices = proven_top_k(queries, gallery, 20)
    expected = exact(reference, queries, gallery)
    assert torch.equal(indices, reference.top(expected, 20))
    torch.testing.assert_close(scores, expected.gather(1, indices), rtol=1e-13, atol=1e-13)
    assert made == [("float32", 30)]


def test_near_ties_take_float64(reference, monkeypatch):
    made = passes(monkeypatch)
    # A circle around the first query; the radii differ by 1e-9, which float32 cannot tell.
    steps = torch.arange(100).double()
    radii = 1 + 1e-9 * (steps * 37 % 100)
    items = radii[:, None] * torch.stack([steps.cos(), steps.sin()], dim=1)
    gallery = MatchScorer(-torch.ones(2).double()).prepare(items)
    rows = torch.tensor([[0.0, 0.0], [0.5, 0.5]]).double()
    queries = PreparedQueries(rows, gallery)
    _, indices = proven_top_k(queries, gallery, 5)
    expected = reference.top(exact(reference, queries, gallery), 5)
    assert torch.equal(indices, expected)
    assert indices[0].tolist() == [0, 73, 46, 19, 92]  # 37 * 73 = 2701, ...
    assert [kind for kind, _ in made] == ["float32", "float64"]
    assert made[1] == ("float64", 1)  # the other query's neighbours are clear


def test_ties_take_the_lowest_indices(monkeypatch):
    made = passes(monkeypatch)
    # 5 better items, then 200 equal ones between worse ones.
    items = torch.full((300, 3), 2.0)
    items[40:240] = 1.0
    items[[7, 250, 251, 252, 299]] = torch.tensor([[0.5], [0.1], [0.4], [0.1], [0.2]])
    gallery = MatchScorer(-torch.ones(3).double()).prepare(items)
    queries = PreparedQueries(torch.zeros(1, 3), gallery)
    scores, indices = proven_top_k(queries, gallery, 9)
    assert indices.tolist() == [[250, 252, 299, 251, 7, 40, 41, 42, 43]]
    assert scores[0, 5:].tolist() == [-3.0] * 4
    assert [kind for kind, _ in made] == ["float32", "float64", "ties"]


def test_only_queries_without_a_proof_are_done_again(monkeypatch):
    made = passes(monkeypatch)
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(400, 8, generator=generator)
    items[100:150] = items[100]
    gallery = MatchScorer(-torch.ones(8).double()).prepare(items)
    rows = torch.cat([torch.randn(4, 8, generator=generator) * 0.1, items[100:101]])
    proven_top_k(PreparedQueries(rows, gallery), gallery, 3)
    assert made == [("float32", 5), ("float64", 1), ("ties", 1)]


def test_a_product_as_wrong_as_the_bound_allows_changes_nothing(reference, monkeypatch):
    queries, gallery = make(3, 12, 700, 16, shift=5)
    inner = scoring.running_top
    # As if products were made in very few bits.
    monkeypatch.setattr(scoring, "_unit", lambda dtype, device: 2.0**-9)
    error = rounding_error(queries, gallery, torch.float64)
    generator = torch.Generator().manual_seed(4)

    def wrong(vectors, tiles, k, key=None):
        noise = 2 * torch.rand(len(error), 700, generator=generator, dtype=torch.float64) - 1
        noise = (0.99 * error[:, None] * noise).to(vectors.dtype)

        def noisy(block, part, start):
            return block + noise[part, start : start + block.shape[1]]

        return inner(vectors, tiles, k, noisy)

    monkeypatch.setattr(scoring, "running_top", wrong)
    _, indices, proven = scoring._attempt(queries, gallery, 2, torch.float32)
    expected = reference.top(exact(reference, queries, gallery), 2)
    assert torch.equal(indices[proven], expected[proven])
    assert not torch.equal(indices, expected)  # the noise was large enough to do harm


def test_values_too_large_for_float32(reference, monkeypatch):
    made = passes(monkeypatch)
    queries, gallery = make(1, 4, 100, 5, scale=1e25)
    _, indices = proven_top_k(queries, gallery, 4)
    assert torch.equal(indices, reference.top(exact(reference, queries, gallery), 4))
    assert [kind for kind, _ in made] == ["float32", "float64"]
