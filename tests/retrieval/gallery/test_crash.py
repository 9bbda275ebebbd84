"""A process that ends at any moment of a change leaves the old state or the new one; several
writers and readers at once.

Children are forked from a server that has loaded everything and run nothing of Lance's. They are
killed at random times, before each of their file operations (by strace, where it is installed and
may trace), and where a file grows beyond some size.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from importlib.util import find_spec

import numpy as np
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryError, GalleryItem
from match_rcnn.retrieval.gallery.store import Store
from match_rcnn.retrieval.scoring import MatchScorer

#: How many times a change is killed at a random time; set it higher for a longer look.
KILLS = int(os.environ.get("MATCH_RCNN_KILLS", "4"))
OPERATIONS = "openat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,fsync"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be forked")


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    modules = ["match_rcnn.retrieval.gallery.gallery", "lance", "lance.file", "faiss", __name__]
    context.set_forkserver_preload(modules)
    return context


#: What a similarity compares beside the vector.
SHAPES = {"regions": (2, 1)}


def item_of(name, value, kind=None, **fields):
    regions = np.full(SHAPES["regions"], value, np.float16)
    return GalleryItem(name, kind, fields={"v": value, **fields}, features={"regions": regions})


def put(gallery, change, names, value):
    items = [item_of(name, value, DEEPFASHION2.category(9)) for name in names]
    return change(items, np.full((len(names), 2), value, np.float32))


def content(folder):
    gallery = Gallery.open(folder)
    ids = [item.id for item in gallery]
    values = gallery.vectors(ids)[:, 0].tolist()
    assert [item.fields["v"] for item in gallery] == values
    assert gallery.vectors(ids, "regions")[:, 1, 0].tolist() == values
    for method in ("exact", "index" if gallery.index_info else "auto"):
        (hits,) = gallery.search(np.zeros(2), 99, where="v >= 0", method=method)
        assert {hit.item.id for hit in hits} == set(ids)
    return dict(zip(ids, values, strict=True)), gallery.images


def start(folder):
    gallery = Gallery.create(folder, MatchScorer(np.array([-1.0, -1.0])), features=SHAPES)
    put(gallery, gallery.add, ["a", "b", "c"], 1)
    put(gallery, gallery.add, ["d"], 2)
    gallery.remove(["b"])
    gallery._store.index_columns(0)
    gallery.refresh()


def take_in(gallery):
    items = [item_of("a", 8), item_of("new", 8)]
    gallery.take_in(items, [[8, 8], [8, 8]], {"x.jpg"})


CHANGES = {
    "add": lambda g: put(g, g.add, ["x", "y"], 3),
    "replace": lambda g: put(g, g.replace, ["a", "d"], 4),
    "remove": lambda g: g.remove(["a", "d"]),
    "compact": lambda g: g.compact(timedelta(0)),
    "new field": lambda g: g.add([item_of("z", 5, w=1)], [[5, 5]]),
}
# Changes of several versions, each of which may be the last.
STEPS = {"take_in": take_in}
if find_spec("faiss"):
    STEPS["index"] = lambda g: g.build_index("flat", num_queries=2)


def work(name, folder, ready, go, size=None):
    """The child: tells that it is ready, waits, changes."""
    if size is not None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    gallery = Gallery.open(folder)
    ready.set()
    go.wait()
    {**CHANGES, **STEPS}[name](gallery)


def states_of(name, origin, folder):
    """What may be there after an end at any moment."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(origin, folder)
    states = [content(folder)]
    if name == "take_in":
        (items, images), replaced = states[0], {"a": 8.0}
        states += [({**items, **replaced}, images), ({**items, **replaced, "new": 8.0}, images)]
    begun = time.monotonic()
    {**CHANGES, **STEPS}[name](Gallery.open(folder))
    return [*states, content(folder)], time.monotonic() - begun


def check(states, folder, what):
    items, images = content(folder)
    assert (items, images) in states, what
    which = states.index((items, images))
    # The next writer is kept out by nothing.
    gallery = Gallery.open(folder)
    gallery.remove(["c"])
    put(gallery, gallery.add, ["after"], 6)
    gallery.compact()
    del items["c"]
    assert content(folder) == ({**items, "after": 6.0}, images), what
    return which


def run(server, name, origin, folder, end, size=None):
    """Start a change and ``end`` it; returns the child's exit code."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(origin, folder)
    ready, go = server.Event(), server.Event()
    child = server.Process(target=work, args=(name, folder, ready, go, size), daemon=True)
    child.start()
    assert ready.wait(60)
    end(child, go)
    child.join(60)
    return child.exitcode


@pytest.mark.parametrize("name", [*CHANGES, *STEPS])
def test_killed_at_any_time(tmp_path, server, name):
    origin, folder = tmp_path / "origin", tmp_path / "index"
    start(origin)
    states, took = states_of(name, origin, folder)
    rng = random.Random(0)

    def kill(child, go):
        go.set()
        time.sleep(rng.uniform(0, 1.2 * took))
        child.kill()

    for number in range(KILLS):
        run(server, name, origin, folder, kill)
        check(states, folder, f"kill {number}")


@pytest.mark.parametrize("name", [*CHANGES, *STEPS])
def test_killed_where_a_file_grows(tmp_path, server, name):
    origin, folder = tmp_path / "origin", tmp_path / "index"
    start(origin)
    states, _ = states_of(name, origin, folder)
    codes = set()
    for size in (0, 1, 500, 1500):
        codes.add(run(server, name, origin, folder, lambda child, go: go.set(), size))
        check(states, folder, f"files of at most {size} bytes")
    assert -signal.SIGXFSZ in codes


def may_trace():
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.mark.skipif(not may_trace(), reason="strace is not here or may not trace")
@pytest.mark.parametrize("name", [*CHANGES, *STEPS])
def test_killed_before_each_file_operation(tmp_path, server, name):
    origin, folder = tmp_path / "origin", tmp_path / "index"
    start(origin)
    states, _ = states_of(name, origin, folder)

    def kill_before(operation):
        def end(child, go):
            tracer = subprocess.Popen(
                [
                    *("strace", "-f", "-p", str(child.pid), "-o", os.devnull),
                    *("-e", f"trace={OPERATIONS}"),
                    *("-e", f"inject={OPERATIONS}:signal=KILL:when={operation}"),
                ],
                stderr=subprocess.PIPE,
                text=True,
            )
            assert tracer.stderr is not None
            tracer.stderr.readline()  # it is attached
            go.set()
            child.join(60)
            tracer.wait(60)

        return end

    operation, reached = 1, set()
    while run(server, name, origin, folder, kill_before(operation)) == -signal.SIGKILL:
        reached.add(check(states, folder, f"operation {operation}"))
        operation += 1 if KILLS > 10 else 12
    assert operation > 10
    assert len(reached) > 1 or states[0] == states[-1]


def test_killed_while_it_is_made(tmp_path):
    scorer = MatchScorer(np.array([-1.0]))
    made = Gallery.create(tmp_path / "made", scorer)
    made.note(a=1)
    # What is there before the first version of the items is no gallery, and in nobody's way.
    folder = tmp_path / "index"
    shutil.copytree(tmp_path / "made" / "photos.lance", folder / "photos.lance")
    with pytest.raises(FileNotFoundError, match="no gallery at"):
        Gallery.open(folder)
    assert len(Gallery.create(folder, scorer)) == 0


def test_an_error_in_the_middle_leaves_nothing(tmp_path):
    start(tmp_path / "index")
    before = content(tmp_path / "index")

    def broken():
        yield from np.ones((5000, 2))
        raise KeyboardInterrupt

    gallery = Gallery.open(tmp_path / "index")
    items = (item_of(f"n{i}", 1) for i in range(6000))
    with pytest.raises(KeyboardInterrupt):
        gallery.add(items, broken())
    assert content(tmp_path / "index") == before
    put(gallery, gallery.add, ["n1"], 7)
    assert len(gallery) == 4


def commits(monkeypatch, gallery, change, between_them):
    """Run ``change`` of a gallery; ``between_them`` comes before its first commit."""
    real, asked = Store._operation, []

    def slow(store, *arguments):
        decided = real(store, *arguments)
        if not asked:
            asked.append(True)
            between_them()
        return decided

    monkeypatch.setattr(Store, "_operation", slow)
    try:
        return change(gallery)
    finally:
        monkeypatch.setattr(Store, "_operation", real)


def test_two_writers_of_different_items(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    start(folder)
    ours = {
        "add": lambda g: put(g, g.add, ["mine"], 3),
        "replace": lambda g: put(g, g.replace, ["a"], 4),
        "remove": lambda g: g.remove(["d"]),
    }
    theirs = {
        "add": lambda g: put(g, g.add, ["theirs"], 5),
        "replace": lambda g: put(g, g.replace, ["c"], 6),
        "compact": lambda g: g.compact(),
        "note": lambda g: g.note(x=1),
    }
    for mine in ours:
        for other in theirs:
            shutil.rmtree(folder)
            start(folder)
            commits(
                monkeypatch,
                Gallery.open(folder),
                ours[mine],
                lambda other=other: theirs[other](Gallery.open(folder)),
            )
            expected = {"a": 1.0, "c": 1.0, "d": 2.0}
            expected |= {"add": {"mine": 3.0}, "replace": {"a": 4.0}, "remove": {}}[mine]
            expected |= {"add": {"theirs": 5.0}, "replace": {"c": 6.0}}.get(other, {})
            expected.pop("d" if mine == "remove" else "", None)
            assert content(folder)[0] == expected, (mine, other)


def test_the_second_writer_of_one_item_is_told(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    start(folder)
    gallery = Gallery.open(folder)

    def other(name):
        return lambda: CHANGES[name](Gallery.open(folder))

    with pytest.raises(ValueError, match="has an item 'x' already"):
        commits(monkeypatch, gallery, CHANGES["add"], other("add"))
    with pytest.raises(ValueError, match="has no item 'a'"):
        commits(monkeypatch, gallery, CHANGES["replace"], other("remove"))
    with pytest.raises(ValueError, match=r"has no item 'c'"):
        commits(
            monkeypatch,
            gallery,
            lambda g: g.remove(["c"]),
            lambda: Gallery.open(folder).remove(["c"]),
        )
    assert content(folder)[0] == {"x": 3.0, "y": 3.0}


def test_a_writer_that_always_loses_is_told(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    start(folder)
    gallery, other = Store(f"{folder}/items.lance"), Gallery.open(folder)
    real, count = gallery._operation, []

    def slow(*arguments):
        found = real(*arguments)
        count.append(1)
        put(other, other.replace, ["a"], len(count))
        return found

    monkeypatch.setattr(gallery, "_operation", slow)
    with pytest.raises(GalleryError, match="others changed it 20 times meanwhile"):
        gallery.change(["a"], [], True)
    assert content(folder)[0]["a"] == 20


def add_some(folder, writer, number):
    gallery = Gallery.open(folder)
    for n in range(number):
        put(gallery, gallery.add, [f"{writer}-{n}"], writer)


def test_several_processes_write(tmp_path, server):
    folder = tmp_path / "index"
    start(folder)
    children = [server.Process(target=add_some, args=(folder, w, 12)) for w in range(3, 6)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    expected = {f"{w}-{n}": float(w) for w in range(3, 6) for n in range(12)}
    assert content(folder)[0] == {"a": 1.0, "c": 1.0, "d": 2.0, **expected}


def test_a_reader_keeps_its_state(tmp_path):
    start(tmp_path / "index")
    reader, writer = Gallery.open(tmp_path / "index"), Gallery.open(tmp_path / "index")
    put(writer, writer.replace, ["a"], 9)
    writer.remove(["d"])
    take_in(writer)
    writer.compact()
    hits = reader.search(np.array([1.0, 1.0]), k=9)[0]
    assert [(h.item.id, h.score) for h in hits] == [("a", 0), ("c", 0), ("d", -2)]
    assert reader.images == frozenset()
    reader.refresh()
    hits = reader.search(np.array([1.0, 1.0]), k=9)[0]
    assert [(h.item.id, h.score) for h in hits] == [("c", 0), ("a", -98), ("new", -98)]
    assert reader.images == {"x.jpg"}


def replace_again_and_again(folder, names):
    writer = Gallery.open(folder)
    for value in range(1, 15):
        put(writer, writer.replace, names, value)
        writer.compact()


def test_readers_beside_a_writer_see_whole_states(tmp_path, server):
    """Each state holds equal vectors in all items; a mixture of two states would show."""
    folder = tmp_path / "index"
    names = [f"i{n}" for n in range(6)]
    gallery = Gallery.create(folder, MatchScorer(np.array([-1.0, -1.0])), features=SHAPES)
    put(gallery, gallery.add, names, 0)
    child = server.Process(target=replace_again_and_again, args=(folder, names))
    child.start()
    seen = []
    while child.is_alive():
        values = content(folder)[0]
        assert len(values) == 6
        assert len(set(values.values())) == 1
        seen.append(values["i0"])
    assert child.exitcode == 0
    assert seen == sorted(seen)
    assert content(folder)[0]["i0"] == 14


def test_lost_files_are_named(tmp_path):
    start(tmp_path / "index")
    data = min((tmp_path / "index/items.lance/data").iterdir(), key=os.path.getmtime)
    gallery = Gallery.open(tmp_path / "index")
    data.unlink()
    with pytest.raises(
        GalleryError, match=r"index/items.lance cannot be read: it is damaged.*" + data.name
    ):
        gallery.search(np.zeros(2))
