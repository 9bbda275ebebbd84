import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.body import Pose, random_pose
from match_rcnn.data.synthetic.cuts import default_cut, random_cut, vary_cut
from match_rcnn.data.synthetic.garments import garment_shape
from match_rcnn.data.synthetic.rigs import RIGS
from match_rcnn.data.synthetic.templates import TEMPLATES

IDS = [category.id for category in taxonomy.DEEPFASHION2.categories]
STILL = Pose(legs=((0.06, -0.06), (0.06, -0.06)))


def distance_to_outline(shape, landmark):
    """From a landmark to the nearest outline or strap it belongs to, body units."""
    point = shape.landmarks[landmark]
    distances = [
        segment_distance(point, outline, np.roll(outline, -1, axis=0))
        for outline in (p.outline() for p in shape.parts.values() if landmark in p.landmarks)
    ]
    distances += [
        segment_distance(point, strap.start[None], strap.end[None])
        for strap in shape.straps
        if landmark in strap.landmarks
    ]
    return min(distances)


def segment_distance(point, starts, ends):
    along = ends - starts
    t = ((point - starts) * along).sum(1) / np.maximum((along**2).sum(1), 1e-12)
    nearest = starts + np.clip(t, 0, 1)[:, None] * along
    return np.linalg.norm(point - nearest, axis=1).min()


@pytest.mark.parametrize("category_id", IDS)
def test_landmarks_of_the_undeformed_garment_lie_on_its_outline(category_id):
    shape = garment_shape(category_id, default_cut(category_id), STILL)
    category = taxonomy.DEEPFASHION2.category(category_id)
    assert shape.landmarks.shape == (category.num_landmarks, 2)
    for landmark in range(category.num_landmarks):
        assert distance_to_outline(shape, landmark) < 1e-9, landmark + 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(IDS), st.integers(0, 2**31), st.integers(1, 3))
def test_landmarks_of_any_garment_lie_on_its_outline(category_id, seed, viewpoint):
    rng = np.random.default_rng(seed)
    cut, pose = random_cut(rng, category_id), random_pose(rng, viewpoint, 1.0)
    shape = garment_shape(category_id, cut, pose)
    assert np.isfinite(shape.landmarks).all()
    drawn = [part.landmarks for part in shape.parts.values()]
    drawn += [strap.landmarks for strap in shape.straps]
    on_outline = frozenset().union(*drawn)
    # What lies on no outline (a neckline seen from behind) must be marked as hidden.
    assert set(range(len(shape.landmarks))) - on_outline <= shape.hidden
    for landmark in on_outline:
        assert distance_to_outline(shape, landmark) < 1e-9


@pytest.mark.parametrize("category_id", IDS)
def test_the_undeformed_garment_overlays_the_drawn_template(category_id):
    """Up to stretching in x and y: the root mean square distance is small against the size."""
    category = taxonomy.DEEPFASHION2.category(category_id)
    points = garment_shape(category_id, default_cut(category_id), STILL).landmarks
    template = TEMPLATES[category.id].xy
    mirrored = template[category.flip_permutation] * [-1, 1] + [1, 0]
    template = (template + mirrored) / 2
    residuals = []
    for axis in (0, 1):
        design = np.stack([points[:, axis], np.ones(len(points))], axis=1)
        solution, *_ = np.linalg.lstsq(design, template[:, axis], rcond=None)
        assert solution[0] > 0
        residuals.append(design @ solution - template[:, axis])
    assert np.sqrt(np.mean(np.square(residuals).sum(axis=0))) < 0.1


@pytest.mark.parametrize("category_id", IDS)
def test_a_still_frontal_garment_is_symmetric(category_id):
    category = taxonomy.DEEPFASHION2.category(category_id)
    shape = garment_shape(category_id, default_cut(category_id), STILL)
    flipped = shape.landmarks[category.flip_permutation] * [-1, 1]
    np.testing.assert_allclose(flipped, shape.landmarks, atol=1e-9)
    assert not shape.hidden


def test_left_landmarks_are_on_the_pictures_left_from_behind_too():
    pose = Pose(back=True)
    for category_id in IDS:
        category = taxonomy.DEEPFASHION2.category(category_id)
        shape = garment_shape(category_id, default_cut(category_id), pose)
        for left, right in category.flip_pairs:
            assert shape.landmarks[left, 0] < shape.landmarks[right, 0]


def test_the_back_view_hides_necklines_and_fronts():
    # 1-based 3, 4, 5 are the front neckline of a top.
    top = garment_shape(1, default_cut(1), Pose(back=True))
    assert {i + 1 for i in top.hidden} == {3, 4, 5}
    # Outwear also hides its front edges: 4, 26, 30, 31, 27, 28, 16, 29.
    coat = garment_shape(3, default_cut(3), Pose(back=True))
    assert {i + 1 for i in coat.hidden} == {3, 5, 4, 26, 30, 31, 27, 28, 16, 29}


def test_a_side_view_is_narrower_and_hides_the_far_side():
    front = garment_shape(1, default_cut(1), STILL)
    side = garment_shape(1, default_cut(1), Pose(yaw=1.2))
    hem = [14, 16]  # 1-based 15 and 17
    assert np.ptp(side.landmarks[hem, 0]) < 0.8 * np.ptp(front.landmarks[hem, 0])
    assert {i + 1 for i in side.hidden} == {18, 19}  # faces right: the right side is far


@pytest.mark.parametrize("category_id", sorted(RIGS))
def test_rigs_name_every_landmark_once(category_id):
    rig = RIGS[category_id]
    left = [rig.neck, rig.neckline[0], rig.shoulder, *rig.outer, *rig.inner, *rig.side, rig.hem]
    left += [] if rig.armpit is None else [rig.armpit]
    left += list(rig.front)
    middle = [rig.back, *([] if rig.front else [rig.neckline[1], rig.middle])]
    named = left + [rig.mirror(i) for i in left] + middle
    assert sorted(named) == list(range(taxonomy.DEEPFASHION2.category(category_id).num_landmarks))


def test_sleeves_bend_with_the_arm():
    cut = default_cut(2)
    straight = garment_shape(2, cut, Pose(arms=((0.3, 0.0), (0.3, 0.0))))
    bent = garment_shape(2, cut, Pose(arms=((0.3, -1.4), (0.3, 0.0))))
    cuff, shoulder = 10, 6  # 1-based 11 and 7
    assert bent.landmarks[cuff, 0] > straight.landmarks[cuff, 0] + 0.2
    np.testing.assert_allclose(bent.landmarks[shoulder], straight.landmarks[shoulder])
    # The other sleeve and the torso stay.
    np.testing.assert_allclose(bent.landmarks[28], straight.landmarks[28])


def test_a_sister_differs_in_one_or_two_measures():
    rng = np.random.default_rng(0)
    for category_id in IDS:
        cut = random_cut(rng, category_id)
        other = vary_cut(rng, category_id, cut)
        changed = [name for name, value in vars(cut).items() if getattr(other, name) != value]
        assert 1 <= len(changed) <= 2
