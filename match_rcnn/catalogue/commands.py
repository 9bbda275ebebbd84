"""What the commands ``index`` and ``search`` do with their arguments."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from match_rcnn.catalogue.cluster import build_on_ray
from match_rcnn.catalogue.indexing import build_gallery
from match_rcnn.catalogue.model import GarmentModel
from match_rcnn.catalogue.photos import (
    default_image_root,
    is_data_set,
    is_folder,
    read_catalogue,
)
from match_rcnn.catalogue.query import (
    changing,
    draw_hits,
    draw_results,
    hit_to_json,
    hits_table,
    results_table,
    search_photo,
    search_text,
)
from match_rcnn.catalogue.recognition import gallery_model
from match_rcnn.d2 import comm, setup_logger
from match_rcnn.data.images import read_image, write_image
from match_rcnn.data.words import tokens
from match_rcnn.inference.weights import find_weights, model_config, shown_from
from match_rcnn.retrieval.gallery.convert import convert
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import optional_module, parse_category
from match_rcnn.utils.files import located, write_json


def build(args: argparse.Namespace) -> None:
    """Index a catalogue; the main process prints the report."""
    if args.convert:
        print(f"{convert(args.convert, args.output)} items")
        return
    setup_logger(distributed_rank=comm.get_rank(), name="match_rcnn")
    if args.index:
        optional_module("faiss")  # to say now, and not after hours, that it is not installed
    if args.boxes == "annotated" and is_folder(args.catalogue):
        raise ValueError(f"--boxes annotated needs a COCO file, and {args.catalogue} is a folder")
    min_score = shown_from(model_config(args.weights, args.config_file, args.opts), args.min_score)
    make = partial(gallery_model, args.config_file, args.weights, min_score, args.opts)
    model = make()
    catalogue = read_catalogue(args.catalogue, args.image_root, model.taxonomy)
    settings = {"boxes": args.boxes, "min_score": min_score, "notes": _notes(args)}
    report = (
        build_on_ray(args.output, catalogue, make, args.address, **settings)
        if args.engine == "ray"
        else build_gallery(args.output, catalogue, model, progress=True, **settings)
    )
    if report is None:
        return
    print(report)
    if args.index and report.items:
        info = Gallery.open(args.output).build_index(args.index, target_recall=args.target_recall)
        print(f"index: {json.dumps(info)}")


def _notes(args: argparse.Namespace) -> dict[str, Any]:
    """What a search needs to find model and photos again."""
    address = "://" in args.weights
    weights = args.weights if address else str(find_weights(args.weights).resolve())
    return {
        "catalogue": str(args.catalogue)
        if is_data_set(args.catalogue)
        else _absolute(args.catalogue),
        "image_root": _absolute(args.image_root or default_image_root(args.catalogue)),
        "config_file": args.config_file and str(args.config_file.resolve()),
        "weights": weights,
        "opts": args.opts,
    }


def _absolute(where: str | Path) -> str:
    return where if isinstance(where, str) else str(where.resolve())


def search(args: argparse.Namespace) -> tuple[str, Any]:
    """Search by a photo or a text; writes ``PHOTO.jpg`` and ``PHOTO.json``, or the text's words
    as a name.

    Returns:
        For people, and for machines: what was found, and where the picture is.
    """
    if args.top < 1:
        raise ValueError(f"--top must be at least 1, got {args.top}")
    if (args.shortlist or 0) < 0:
        raise ValueError(f"--shortlist must be at least 0, got {args.shortlist}")
    if args.text and args.change:
        raise ValueError("--change is of a --query photo, not of a --text")
    opened = Gallery.open(args.index)
    notes = opened.notes
    category = parse_category(args.category, opened.taxonomy) if args.category else None
    photo = None if args.text else read_image(args.query, upright=True)
    model = _model(args, notes)
    gallery = Gallery.open(args.index, model.fingerprint)
    shortlist = model.shortlist if args.shortlist is None else args.shortlist
    if args.shortlist and model.similarity is None:
        raise ValueError("--shortlist: the model has no similarity beside its product's score")
    wanted = {
        "category": category,
        "where": args.where,
        "method": args.method,
        "group_by": None if args.group_by == "none" else args.group_by,
    }
    root = args.image_root or located(notes.get("image_root", "."))
    upright = notes.get("boxes") != "annotated"
    if photo is None:
        hits = search_text(gallery, model, args.text, k=args.top, **wanted)
        values, table = [hit_to_json(hit) for hit in hits], hits_table(hits)
        drawn, name = draw_hits(args.text, hits, root, upright=upright), "-".join(tokens(args.text))
    else:
        wanted |= {"same_category": args.same_category, "shortlist": shortlist}
        wanted["change"] = changing(model, args.change)
        results = search_photo(gallery, model, photo, top=args.top, **wanted)
        values, table = [result.to_json() for result in results], results_table(results)
        drawn, name = draw_results(photo, results, root, upright=upright), args.query.stem
    picture = args.output / f"{name}.jpg"
    write_image(picture, drawn)
    write_json(picture.with_suffix(".json"), values)
    return f"{table}\npicture: {picture}", {"results": values, "picture": str(picture)}


def _model(args: argparse.Namespace, notes: dict[str, Any]) -> GarmentModel:
    config_file = args.config_file or notes.get("config_file")
    weights = args.weights or notes.get("weights")
    if not weights:
        raise ValueError(f"{args.index} does not say its model; pass --weights")
    opts = args.opts or notes.get("opts")
    min_score = shown_from(model_config(weights, config_file, opts), args.min_score)
    return gallery_model(config_file, weights, min_score, opts)
