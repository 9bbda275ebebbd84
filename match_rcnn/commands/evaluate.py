"""Score result files: DeepFashion2's in the official format, DeepFashion's (2016) as npz.

bbox, segm, keypoints: against COCO-form ground truth. The numbers are those of the official
evaluator (pycocotools with DeepFashion2's sigmas). Ground truth and landmark results may be dense
(294 landmarks an item) or compact (the category's own).

retrieval: against query and gallery ground truth (convert_df2.py --retrieval writes them). The
numbers are those of the official script.

recognition, inshop, consumer2shop: on DeepFashion (2016); --root names the benchmark's folder, with
Anno/ and Eval/. recognition: --predictions, an npz file with images (N,) and any of category_scores
(N, C), attribute_scores (N, A) and landmarks (N, 8, 2) in pixels, against a --split. inshop and
consumer2shop: --embeddings, an npz file with images (N,) and embeddings (N, d). manipulation: on a
--split with fine labels (Anno_fine/); --predictions with images, embeddings (N, d), changed
(N, V, d) and changed_to (V,), names of attributes.

--check says instead what a grader would reject; it needs no ground truth. With --ground-truth (a
file that has images only will do) or --images (a folder) it looks at image ids and mask sizes too.
"""

import argparse
import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from match_rcnn.data.taxonomy import Taxonomy

from match_rcnn.commands import Answer, UsageError, new_parser
from match_rcnn.utils.files import write_json

# What scores is imported where it is needed: half of a short run is imports.

TASKS = ("bbox", "segm", "keypoints")
CHECKED = (*TASKS, "retrieval")
#: The arguments of each task, each needed there.
NEEDED = {
    **dict.fromkeys(TASKS, ("ground_truth", "results")),
    "retrieval": ("query_gt", "gallery_gt", "results"),
    **dict.fromkeys(("recognition", "manipulation"), ("root", "split", "predictions")),
    **dict.fromkeys(("inshop", "consumer2shop"), ("root", "embeddings")),
}


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--task", choices=list(NEEDED), required=True)
    parser.add_argument("--ground-truth", type=Path, metavar="GT", help="all but retrieval")
    parser.add_argument("--query-gt", type=Path, metavar="Q", help="retrieval")
    parser.add_argument("--gallery-gt", type=Path, metavar="G", help="retrieval")
    parser.add_argument("--results", type=Path, metavar="DT", help="DeepFashion2's tasks")
    parser.add_argument("--root", type=Path, metavar="DIR", help="DeepFashion's tasks")
    parser.add_argument("--split", choices=["train", "val", "test"], help="by split")
    parser.add_argument("--predictions", type=Path, metavar="NPZ", help="recognition")
    parser.add_argument("--embeddings", type=Path, metavar="NPZ", help="inshop, consumer2shop")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="OUT",
        help="JSON: stats (COCO's 12 or 10 numbers, -1 where nothing counts), per_category; "
        "retrieval: accuracy (by k, 0 to 1), queries, missed, without_partner",
    )
    parser.add_argument(
        "--visible-only",
        action="store_true",
        help="keypoints: occluded landmarks (v = 1) count as unlabelled",
    )
    parser.add_argument(
        "--subsets", action="store_true", help="bbox, segm, keypoints: AP by subset too"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DT",
        help="bbox, segm, keypoints: another model's results on the same photos; how far --results "
        "are above them, with the 95 %% interval of a paired bootstrap over images",
    )
    parser.add_argument(
        "--taxonomy",
        type=Path,
        metavar="FILE",
        help="yaml or JSON with categories and their landmarks; without it, DeepFashion2's",
    )
    parser.add_argument("--check", action="store_true", help="the format only")
    parser.add_argument("--images", type=Path, metavar="DIR", help="with --check: the test set's")
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raises: UsageError: they do not go together."""
    if args.check:
        if args.task not in CHECKED or args.results is None:
            raise UsageError(f"--check needs --results of one of the tasks {', '.join(CHECKED)}")
        return
    if args.output is None or args.images is not None:
        raise UsageError("scoring needs --output and does not take --images")
    if args.against is not None and args.task not in TASKS:
        raise UsageError(f"--against is for the tasks {', '.join(TASKS)}, not {args.task}")
    names = {name for names in NEEDED.values() for name in names}
    for name in sorted(names, key=lambda name: (name in NEEDED[args.task], name)):
        if (getattr(args, name) is not None) != (name in NEEDED[args.task]):
            verb = "needs" if name in NEEDED[args.task] else "does not take"
            raise UsageError(f"--task {args.task} {verb} --{name.replace('_', '-')}")


def evaluate_coco(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from match_rcnn.evaluation.coco.subsets import evaluate_files
    from match_rcnn.evaluation.tables import scores_table, view_subset_table
    from match_rcnn.utils.parallel import available_cores

    paths = args.ground_truth, args.results
    taxonomy = read_taxonomy(args)
    view = evaluate_files(
        args.task, *paths, args.visible_only, taxonomy, args.subsets, available_cores()
    )
    files = {"ground_truth": str(args.ground_truth), "results": str(args.results)}
    found = {**view.to_json(), "visible_only": args.visible_only, "files": files}
    shown = [scores_table(view.whole)] + [view_subset_table(view)] * args.subsets
    if args.against is not None:
        found["against"], table = compare(args, taxonomy)
        shown.append(table)
    return found, "\n\n".join(shown)


def compare(args: argparse.Namespace, taxonomy: "Taxonomy") -> tuple[dict[str, Any], str]:
    from dataclasses import asdict

    from match_rcnn.evaluation.coco.bootstrap import compare_files
    from match_rcnn.evaluation.coco.files import read_ground_truth
    from match_rcnn.evaluation.tables import differences_table

    truth = read_ground_truth(args.ground_truth, [args.task], taxonomy)
    assert truth is not None  # it was scored
    truth = truth.visible_only() if args.visible_only else truth
    found = compare_files(args.task, truth, args.against, args.results)
    return {name: asdict(one) for name, one in found.items()}, differences_table(found)


def read_taxonomy(args: argparse.Namespace) -> "Taxonomy":
    from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy

    return Taxonomy.from_yaml(args.taxonomy) if args.taxonomy else DEEPFASHION2


def evaluate_retrieval(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from match_rcnn.evaluation.retrieval.files import evaluate_retrieval_files
    from match_rcnn.evaluation.tables import retrieval_table

    if args.visible_only:
        raise ValueError("visible_only is for the task 'keypoints', not 'retrieval'")
    files = {"query_gt": args.query_gt, "gallery_gt": args.gallery_gt, "results": args.results}
    scores = evaluate_retrieval_files(*files.values())
    found = {**scores.to_json(), "files": {name: str(path) for name, path in files.items()}}
    return found, retrieval_table({"accuracy": scores})


def evaluate_deepfashion(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from match_rcnn.evaluation import recognition

    if args.task == "recognition":
        found = recognition.evaluate_recognition(args.root, args.split, args.predictions)
    elif args.task == "manipulation":
        found = recognition.evaluate_manipulation(args.root, args.split, args.predictions)
    else:
        found = recognition.evaluate_retrieval(args.task, args.root, args.embeddings)
    return found, recognition.scores_table(found)


def evaluator_of(task: str) -> Callable[[argparse.Namespace], tuple[dict[str, Any], str]]:
    if task in TASKS:
        return evaluate_coco
    return evaluate_retrieval if task == "retrieval" else evaluate_deepfashion


def check(args: argparse.Namespace) -> Answer:
    from match_rcnn.evaluation.submission import check_results, images_of_file, images_of_folder

    images = None
    if args.ground_truth is not None or args.images is not None:
        by_file = args.ground_truth is not None
        images = images_of_file(args.ground_truth) if by_file else images_of_folder(args.images)
    verdict = check_results(args.results, args.task, images, read_taxonomy(args))
    if args.output is not None:
        write_json(args.output, {**verdict.to_json(), "results": str(args.results)})
    return Answer(str(verdict), verdict.to_json(), 0 if verdict.accepted else 1)


def run(args: argparse.Namespace) -> Answer:
    check_arguments(args)
    gc.disable()  # there are no cycles, and Python looks for them at every thousand entries read
    if args.check:
        return check(args)
    found, table = evaluator_of(args.task)(args)
    write_json(args.output, found)
    return Answer(table, found)
