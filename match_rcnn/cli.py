"""The command ``match-rcnn``, and what the files of ``tools/`` start.

Nothing heavy is imported before it is known which command is asked for.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from match_rcnn import __version__
from match_rcnn.commands import UsageError

#: By name; the module is ``match_rcnn.commands.NAME`` with underscores.
COMMANDS = {
    "predict": "find the garments of photos, folders and videos",
    "measure": "lengths of garments: shoulders, chest, waist, sleeve, inseam, ...",
    "index": "index a catalogue of photos, so that it can be searched by photo",
    "search": "search a gallery by photo",
    "serve": "a page and a JSON API to find garments and search a gallery",
    "train": "train or evaluate a model",
    "evaluate": "score result files",
    "report": "a page of tables and plots about runs",
    "demo": "generate data, train, evaluate and draw, on two processor cores",
    "pack": "one file of a trained model, with calibrated scores",
    "accuracy": "measure what makes a model for photos better, over seeds",
    "street": "train on street photos: the recipe of the model that comes with the package",
    "convert df2": "DeepFashion2's annotations into a COCO file",
    "convert ccp": "Clothing Co-Parsing into a COCO file",
    "convert clothing": "boxes for photos of clothing-dataset, of which a word is known",
    "convert weights": "weights of other origin into a start for training",
    "generate": "write a generated DeepFashion2 in its on-disk format",
    "generate-deepfashion": "write generated data in the forms of DeepFashion's (2016) benchmarks",
    "export": "write a model as ONNX, to run it without torch",
    "visualize": "draw predictions or annotations of an image, a folder or a data set",
    "dataset-report": "say what is in a data set",
    "compare-runs": "lay the losses of several trainings over each other",
    "compare-hosts": "compare what two hosts compute from one config",
    "retrieval-baseline": "retrieval by colour and by chance, beside a run's",
    "retrieval-figure": "draw queries with their best results",
    "ablation": "compare features and losses of the match network, over seeds",
    "fashionnet": "FashionNet (DeepFashion, 2016) on generated data, its ideas with and without",
    "survey": "all systems of DeepFashion (2016) on the same generated data, and what shows",
    "benchmark": "measure speed and memory against a reference",
}
_GROUPS = {"convert": "bring annotations or weights into our form"}


def main(argv: Sequence[str] | None = None) -> int:
    """``match-rcnn``; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return run_command(name, words[length:], f"match-rcnn {name}")
    parser = _overview()
    parser.parse_args(words)
    parser.print_help()
    return 2


def tool(name: str) -> None:
    """A file of ``tools/``: the command of another name."""
    sys.exit(run_command(name, sys.argv[1:]))


def run_command(name: str, words: Sequence[str], prog: str | None = None) -> int:
    """Run a command with its arguments; returns the exit status."""
    module = _module(name)
    parser = command_parser(name, prog)
    args = parser.parse_args(words)
    as_json = getattr(args, "json", None) is True
    try:
        with _stdout_for_the_answer() if as_json else nullcontext():
            answer = module.run(args)
    except getattr(module, "EXPECTED", (ValueError, OSError, ImportError)) as error:
        if isinstance(error, UsageError):
            parser.error(str(error))
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    text = _json(answer.values) if as_json else answer.text and f"{answer.text}\n"
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # who read has had enough, as head; what is left has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return int(answer.code)


def _module(name: str) -> Any:
    file = name.replace(" ", "_").replace("-", "_")
    return importlib.import_module(f"match_rcnn.commands.{file}")


def command_parser(name: str, prog: str | None = None) -> argparse.ArgumentParser:
    """What reads a command's arguments."""
    module = _module(name)
    parser: argparse.ArgumentParser = module.parser(prog)
    if not getattr(module, "OWN_JSON", False):
        parser.add_argument("--json", action="store_true", help="answer with JSON, for machines")
    return parser


def _json(values: Any) -> str:
    import orjson

    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2
    return orjson.dumps(values, default=str, option=option).decode() + "\n"


@contextmanager
def _stdout_for_the_answer() -> Iterator[None]:
    """What is printed meanwhile goes to standard error, by processes that are started, too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _overview(whole: bool = False) -> argparse.ArgumentParser:
    """The parser of ``match-rcnn`` itself. Args: whole: with every command's arguments."""
    parser = argparse.ArgumentParser(
        prog="match-rcnn",
        description="Garments in photos: find them, measure them, search for them.",
        epilog="match-rcnn COMMAND --help says more of a command.",
    )
    parser.add_argument("--version", action=_Say, text=lambda _: version())
    parser.add_argument(
        "--print-completion",
        action=_Say,
        text=completion,
        nargs=None,
        choices=("bash", "zsh", "tcsh"),
        help="a script that lets this shell complete arguments",
    )
    commands = parser.add_subparsers(metavar="COMMAND")
    groups: dict[str, Any] = {}
    for name, summary in COMMANDS.items():
        first, _, second = name.partition(" ")
        if second and first not in groups:
            group = commands.add_parser(first, help=_GROUPS[first], description=_GROUPS[first])
            groups[first] = group.add_subparsers(metavar="WHAT", required=True)
        parents = [command_parser(name)] if whole else []
        (groups[first] if second else commands).add_parser(
            second or first, help=summary, parents=parents, conflict_handler="resolve"
        )
    return parser


class _Say(argparse.Action):
    """An option that prints a text and ends."""

    def __init__(self, *args: Any, text: Callable[[Any], str], **kwargs: Any) -> None:
        super().__init__(*args, **{"nargs": 0, **kwargs})
        self._text = text

    def __call__(self, parser: argparse.ArgumentParser, _: Any, value: Any, *rest: Any) -> None:
        print(self._text(value))
        parser.exit()


def version() -> str:
    """Package, host, torch and device, a line each."""
    import torch

    from match_rcnn.d2 import HOST, HOST_VERSION

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"match-rcnn {__version__}\nhost {HOST} {HOST_VERSION}\ntorch {torch.__version__}\n"
        f"device {device}\npython {python}"
    )


def completion(shell: str) -> str:
    """A script for the shell."""
    import shtab

    return str(shtab.complete(_overview(whole=True), shell))
