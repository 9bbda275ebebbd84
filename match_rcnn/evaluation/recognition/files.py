"""DeepFashion (2016) scored from files: predictions or embeddings as npz, the lists as they are.

Shapes: ``N`` images of a file in any order, ``C`` categories, ``A`` attributes, ``d`` the length of
an embedding.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from match_rcnn.data.sources.deepfashion import (
    ATTRIBUTE_TYPES,
    SLOTS,
    Strings,
    read_attributes,
    read_boxes,
    read_categories,
    read_landmarks,
    read_names,
    read_pairs,
    read_partition,
    rows_of,
)
from match_rcnn.data.sources.deepfashion_labels import read_labels
from match_rcnn.evaluation.recognition.landmarks import landmark_errors, summarise_landmarks
from match_rcnn.evaluation.recognition.manipulation import score_manipulation
from match_rcnn.evaluation.recognition.rankings import attribute_recall, top_k_accuracy
from match_rcnn.evaluation.recognition.retrieval import (
    Task,
    consumer_to_shop_task,
    in_shop_task,
    ranks,
    reordered,
    score_ranks,
)
from match_rcnn.modeling.similarity import Similarity, expect_features
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.retrieval.second_stage import SecondStage
from match_rcnn.utils.arrays import Array, IntArray

CATEGORY_TOPS = (1, 3, 5)
ATTRIBUTE_TOPS = (3, 5)
DISTANCES = (0.05, 0.1, 0.2)

Arrays = dict[str, Array]


def read_npz(file: str | Path, wanted: tuple[str, ...], beside: Sequence[str] = ()) -> Arrays:
    """``images`` (N,) and those of the ``wanted`` arrays that the file has, in double or single
    precision.

    Args:
        beside: more arrays, without a row an image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no npz file, lacks ``images``, has none of the wanted arrays, arrays of
            different lengths, an image twice, or a number that is not finite; the message names it.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            names = [name for name in ("images", *wanted, *beside) if name in archive.files]
            arrays = {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError, AttributeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{file} is no npz file of plain arrays: {error}") from error
    if "images" not in arrays or len(arrays) == 1:
        raise ValueError(
            f"expected the arrays images and at least one of {', '.join(wanted)} in {file}; got "
            f"{', '.join(arrays) or 'none'}"
        )
    images = arrays["images"]
    arrays["images"] = np.char.decode(images, "utf-8") if images.dtype.kind == "S" else images
    _check({name: values for name, values in arrays.items() if name not in beside}, file)
    return arrays


def _check(arrays: Arrays, file: str | Path) -> None:
    images = arrays["images"]
    if images.ndim != 1 or images.dtype.kind != "U":
        raise ValueError(f"expected images in {file} as strings (N,), got {images.dtype}")
    names, counts = np.unique(images, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{file} has {names[counts > 1][0]} more than once")
    for name, values in arrays.items():
        if len(values) != len(images):
            raise ValueError(
                f"{file} has {len(images)} images and {len(values)} rows of {name}; expected one "
                "row an image"
            )
        if name != "images" and not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise ValueError(f"{name} of {images[row]} in {file} is not finite")


def evaluate_recognition(root: str | Path, split: str, predictions: str | Path) -> dict[str, Any]:
    """Category, attribute and landmark scores of a split of "category and attribute prediction" or
    "landmark detection".

    Args:
        root: the benchmark's folder, with ``Anno/`` and ``Eval/``.
        split: ``train``, ``val`` or ``test``.
        predictions: an npz file with ``images`` and any of ``category_scores`` (N, C),
            ``attribute_scores`` (N, A) and ``landmarks`` (N, 8, 2) in pixels of the image.

    Returns:
        ``images``, and for what the file has ``category``, ``attributes`` and ``landmarks``.

    Raises:
        FileNotFoundError, ValueError: a file is missing or cannot be used; an image of the split
            has no predictions.
    """
    root = Path(root)
    partition = read_partition(root)
    wanted = partition.images[partition.of(split)]
    arrays = read_npz(predictions, ("category_scores", "attribute_scores", "landmarks"))
    rows = rows_of(arrays["images"], wanted, str(predictions))
    result: dict[str, Any] = {"images": len(wanted)}
    if "category_scores" in arrays:
        result["category"] = _category(root, wanted, arrays["category_scores"][rows], predictions)
    if "attribute_scores" in arrays:
        scores = arrays["attribute_scores"][rows]
        result["attributes"] = _attributes(root, wanted, scores, predictions)
    if "landmarks" in arrays:
        result["landmarks"] = _landmarks(root, wanted, arrays["landmarks"][rows], predictions)
    return result


def _category(root: Path, wanted: Strings, scores: Array, file: str | Path) -> dict[str, float]:
    names = read_names(root, "list_category_cloth.txt")
    _expect_shape("category_scores", scores, (len(names),), f"{names.file} names", file)
    images, labels = read_categories(root)
    truth = labels[rows_of(images, wanted, "list_category_img.txt")] - 1
    if ((truth < 0) | (truth >= len(names))).any():
        strange = int(truth[(truth < 0) | (truth >= len(names))][0]) + 1
        raise ValueError(f"list_category_img.txt has category {strange} of {len(names)}")
    return score_categories(scores, truth)


def _attributes(
    root: Path, wanted: Strings, scores: Array, file: str | Path
) -> dict[str, dict[str, float | None]]:
    names = read_names(root, "list_attr_cloth.txt")
    _expect_shape("attribute_scores", scores, (len(names),), f"{names.file} names", file)
    images, labels = read_attributes(root, len(names))
    own = labels[rows_of(images, wanted, "list_attr_img.txt")]
    return score_attributes(scores, own, names.types, ATTRIBUTE_TYPES)


def score_categories(scores: Array, truth: Array) -> dict[str, float]:
    """:func:`~match_rcnn.evaluation.recognition.rankings.top_k_accuracy` by ``top3`` etc."""
    return {f"top{k}": v for k, v in top_k_accuracy(scores, truth, CATEGORY_TOPS).items()}


def score_attributes(
    scores: Array, labels: Array, types: IntArray, type_names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """:func:`~match_rcnn.evaluation.recognition.rankings.attribute_recall`, as the above."""
    recall = attribute_recall(scores, labels, types, type_names, ATTRIBUTE_TOPS)
    return {group: {f"top{k}": v for k, v in own.items()} for group, own in recall.items()}


def _landmarks(root: Path, wanted: Strings, predicted: Array, file: str | Path) -> dict[str, Any]:
    _expect_shape("landmarks", predicted, (len(SLOTS), 2), "the eight slots are", file)
    images, landmarks = read_landmarks(root)
    truth = landmarks[rows_of(images, wanted, "list_landmarks.txt")]
    images, boxes = read_boxes(root)
    own = boxes[rows_of(images, wanted, "list_bbox.txt")]
    empty = ~(own[:, 2:] > own[:, :2]).all(1)
    if empty.any():
        raise ValueError(
            f"{int(empty.sum())} images have a box without area in list_bbox.txt, such as "
            f"{wanted[empty][0]}: a landmark's error is measured in its box"
        )
    return summarise_landmarks(landmark_errors(predicted, truth, own), DISTANCES)


def _expect_shape(
    name: str, values: Array, row: tuple[int, ...], why: str, file: str | Path
) -> None:
    if values.shape[1:] != row:
        raise ValueError(
            f"expected {name} of shape (N, {', '.join(map(str, row))}), as many as {why}; got "
            f"{values.shape} in {file}"
        )


def in_shop(root: str | Path) -> Task:
    """The in-shop task of a data set's folder."""
    return in_shop_task(read_partition(Path(root), with_items=True))


def consumer_to_shop(root: str | Path) -> Task:
    """The consumer-to-shop task of a data set's folder."""
    return consumer_to_shop_task(read_pairs(Path(root)))


TASKS = {"inshop": in_shop, "consumer2shop": consumer_to_shop}


def evaluate_retrieval(task: str, root: str | Path, embeddings: str | Path) -> dict[str, Any]:
    """Scores of in-shop or consumer-to-shop retrieval by the Euclidean distance.

    Args:
        task: of :data:`TASKS`.
        root: the benchmark's folder, with ``Anno/`` and ``Eval/``.
        embeddings: an npz file with ``images`` (N,) and ``embeddings`` (N, d).

    Returns:
        See :func:`~match_rcnn.evaluation.recognition.retrieval.score_ranks`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or cannot be used; a query or a gallery
            image has no embedding.
    """
    asked = TASKS[task](root)
    arrays = read_npz(embeddings, ("embeddings",))
    vectors = arrays["embeddings"]
    if vectors.ndim != 2:
        raise ValueError(f"expected embeddings (N, d) in {embeddings}, got {vectors.shape}")
    return score_embeddings(asked, arrays["images"], vectors, str(embeddings))


def score_embeddings(task: Task, images: Strings, vectors: Array, source: str) -> dict[str, Any]:
    """See :func:`evaluate_retrieval`. Args: vectors: (N, d), of the images; source: of both."""
    queries, gallery = (
        vectors[rows_of(images, np.array(names), source)] for names in (task.queries, task.gallery)
    )
    return score_ranks(task, ranks(queries, gallery, task.query, task.right))


def evaluate_manipulation(root: str | Path, split: str, predictions: str | Path) -> dict[str, Any]:
    """Scores of retrieval by a changed wish, on a split with fine labels.

    Args:
        root: the benchmark's folder, with ``Anno_fine/``.
        split: ``train``, ``val`` or ``test``.
        predictions: an npz file with ``images`` (N,), ``embeddings`` (N, D), ``changed`` (N, V, D)
            and ``changed_to`` (V,), the names of the attributes that an image's vector then has.

    Returns:
        See :func:`~match_rcnn.evaluation.recognition.manipulation.score_manipulation`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or cannot be used; an image of the split
            has no vectors.
    """
    data = read_labels(Path(root), "fine")
    assert data.attributes is not None
    assert data.attribute_names is not None
    own = data.split == split
    arrays = read_npz(predictions, ("embeddings", "changed"), ("changed_to",))
    lacking = [name for name in ("embeddings", "changed", "changed_to") if name not in arrays]
    if lacking:
        raise ValueError(f"expected the array {lacking[0]} in {predictions}, got none")
    vectors, changed, names = (arrays[n] for n in ("embeddings", "changed", "changed_to"))
    if changed.shape != (len(vectors), len(names), *vectors.shape[1:]):
        raise ValueError(
            f"expected changed of shape (N, V, D) beside embeddings {vectors.shape} and "
            f"{len(names)} names in changed_to, got {changed.shape} in {predictions}"
        )
    where = {name: i for i, name in enumerate(data.attribute_names.names)}
    strange = [name for name in names.tolist() if name not in where]
    if strange:
        known = ", ".join(where)
        raise ValueError(f"{predictions}: changed_to has {strange[0]!r}; {root} knows {known}")
    places = np.array([where[name] for name in names.tolist()], dtype=np.int64)
    types = data.attribute_names.types[places]
    rows = rows_of(arrays["images"], data.images[own], str(predictions))
    order = np.argsort(types, kind="stable")
    columns = [places[types == kind] for kind in np.unique(types)]
    moved = changed[rows][:, order]
    return score_manipulation(data.attributes[own], columns, vectors[rows], moved)


def score_in_two_stages(
    task: Task,
    images: Strings,
    vectors: Array,
    features: Mapping[str, Array],
    similarity: Similarity,
    shortlist: int,
    source: str,
) -> dict[str, Any]:
    """Scores as of :func:`score_embeddings` once a similarity has ordered the first images of each
    query, equal ones in the order of the distance.

    Args:
        vectors, features: (N, d), and (N, *shape) by name, of the images.
        shortlist: so many images are ordered.
        source: of all of them, for messages.

    Returns:
        The scores, and below ``"embedding"`` those of the vectors alone with ``shortlist_recall``,
        the share of queries with a right image among the first: the most that the similarity can
        reach.

    Raises:
        ValueError: an image or a feature that the similarity needs is missing.
    """
    expect_features(similarity, features, 1, source)
    asked, there = (rows_of(images, np.array(n), source) for n in (task.queries, task.gallery))
    found = ranks(vectors[asked], vectors[there], task.query, task.right)
    scorer = MatchScorer.euclidean(vectors.shape[1])
    best = scorer.top_k(vectors[asked], vectors[there], shortlist)
    second = SecondStage(similarity, {n: v[asked] for n, v in features.items()}, shortlist)
    _, order, _ = second.checked(len(asked)).reordered(
        best.scores.numpy(), best.indices.numpy(), lambda rows, name: features[name][there[rows]]
    )
    after = reordered(task, found, order)
    recall = float(np.isin(np.arange(len(asked)), task.query[after < order.shape[1]]).mean())
    first = {**score_ranks(task, found), "shortlist_recall": recall}
    return {**score_ranks(task, after), "embedding": first}


def scores_table(scores: dict[str, Any]) -> str:
    """What :func:`evaluate_recognition` or :func:`evaluate_retrieval` returns, for people: shares
    in percent, normalised errors as they are."""
    blocks = [", ".join(f"{name}: {n}" for name, n in scores.items() if isinstance(n, int))]
    tables = {name: value for name, value in scores.items() if isinstance(value, dict)}
    first = tables.pop("embedding", None)
    if "landmarks" in tables:
        tables.update(tables.pop("landmarks"))
    for name, table in tables.items():
        nested = all(isinstance(row, dict) for row in table.values())
        rows = table if nested else {name: table}
        share = "{:.4f}" if name == "ne" else "{:.2%}"
        body = [
            [label, *(_shown(k, v, share) for k, v in row.items())] for label, row in rows.items()
        ]
        heads = list(next(iter(rows.values())))
        blocks.append(
            tabulate(
                body,
                headers=[name if nested else "", *heads],
                stralign="right",
                disable_numparse=True,
            )
        )
    if "map" in scores:
        blocks.append(f"mAP {scores['map']:.2%}")
    if first:
        recall = f"the shortlist's recall {first['shortlist_recall']:.2%}"
        blocks += [f"in the order of the embedding; {recall}", scores_table(first)]
    return "\n\n".join(blocks)


def _shown(name: str, value: float | None, share: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name.endswith("_rank") else share.format(value)
