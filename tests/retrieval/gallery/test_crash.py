"""A process that is killed at any file operation of a change leaves the old state or the new one.

A forked child counts its file operations through an audit hook and ends itself, without any
clean-up, before the n-th; n runs over all of them.
"""

import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest

from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryError, GalleryItem, parse_category
from match_rcnn.retrieval.gallery.segments import Segment, SegmentWriter
from match_rcnn.retrieval.scoring import MatchScorer

KILLED = 137
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree")


def put(gallery, change, names, value):
    items = [GalleryItem(name, parse_category("skirt"), fields={"v": value}) for name in names]
    return change(items, np.full((len(names), 2), value, np.float32))


def content(folder):
    gallery = Gallery.open(folder)
    return {item.id: gallery.vectors([item.id])[0, 0] for item in gallery}


def run_killed(change, operation):
    """Run ``change`` in a child that ends before its n-th file operation; True if it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    try:
        left = [operation]

        def count(event):
            if event in EVENTS:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(KILLED)

        os.fsync = lambda descriptor: count("open")
        sys.addaudithook(lambda event, _: count(event))
        change()
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A killed process leaves what it has written in the system's hands: only a loss of power
    would need the disk, and no test here makes one."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def start(folder):
    gallery = Gallery.create(folder, MatchScorer(np.array([-1.0, -1.0])))
    put(gallery, gallery.add, ["a", "b", "c"], 1)
    put(gallery, gallery.add, ["d"], 2)
    gallery.remove(["b"])


def adopt(gallery, folder):
    with SegmentWriter(folder / "incoming", 2, "part") as writer:
        writer.add([GalleryItem("a"), GalleryItem("new")], [[8, 8], [8, 8]])
    gallery.adopt([Segment(folder / "incoming" / "part")], {"x.jpg"})


CHANGES = {
    "add": lambda g, f: put(g, g.add, ["x", "y"], 3),
    "replace": lambda g, f: put(g, g.replace, ["a", "d"], 4),
    "remove": lambda g, f: g.remove(["a", "d"]),
    "compact": lambda g, f: g.compact(),
    "adopt": adopt,
    "add and merge": lambda g, f: put(g, g.add, ["x"], 5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_killed_before_each_file_operation(tmp_path, name, monkeypatch):
    if "merge" in name:
        monkeypatch.setattr("match_rcnn.retrieval.gallery.gallery._MERGE", 2)
    origin, folder = tmp_path / "origin", tmp_path / "index"
    start(origin)
    shutil.copytree(origin, folder)
    states = [content(folder)]
    CHANGES[name](Gallery.open(folder), folder)
    states.append(content(folder))
    operation, reached = 0, set()
    while True:
        shutil.rmtree(folder)
        shutil.copytree(origin, folder)
        killed = run_killed(lambda: CHANGES[name](Gallery.open(folder), folder), operation)
        state = content(folder)
        assert state in states, f"operation {operation}"
        reached.add(states.index(state))
        # The next writer is not kept out, and sweeps what was left.
        gallery = Gallery.open(folder)
        gallery.remove(["c"])
        state.pop("c")
        assert content(folder) == state
        assert {p.name for p in (folder / "segments").iterdir()} == {
            entry.name for entry in gallery._snapshot.manifest.segments
        }
        if not killed:
            break
        operation += 1
    assert operation > 10
    assert reached >= {0, 1} or states[0] == states[1]


def test_killed_while_it_is_made(tmp_path):
    scorer = MatchScorer(np.array([-1.0]))
    operation = 0
    while run_killed(lambda: Gallery.create(tmp_path / "index", scorer), operation):
        if (tmp_path / "index" / "manifest.json").exists():
            assert len(Gallery.open(tmp_path / "index")) == 0
        else:
            Gallery.create(tmp_path / "index", scorer)
        shutil.rmtree(tmp_path / "index")
        operation += 1
    assert operation > 3


def test_an_error_in_the_middle_leaves_nothing(tmp_path):
    start(tmp_path / "index")
    before = content(tmp_path / "index")
    files = sorted(p for p in (tmp_path / "index").rglob("*"))

    def broken():
        yield from np.ones((5000, 2))
        raise KeyboardInterrupt

    gallery = Gallery.open(tmp_path / "index")
    items = (GalleryItem(f"n{i}") for i in range(6000))
    with pytest.raises(KeyboardInterrupt):
        gallery.add(items, broken())
    assert content(tmp_path / "index") == before
    assert sorted(p for p in (tmp_path / "index").rglob("*")) == files
    put(gallery, gallery.add, ["n1"], 7)
    assert len(gallery) == 4


def test_one_writer_at_a_time(tmp_path):
    start(tmp_path / "index")
    first, second = Gallery.open(tmp_path / "index"), Gallery.open(tmp_path / "index")
    with (
        first.writing(),
        pytest.raises(GalleryError, match=f"being written by process {os.getpid()} on"),
    ):
        second.remove(["a"])
    second.remove(["a"])
    with pytest.raises(ValueError, match="has no item 'a'"):
        first.remove(["a"])  # it has seen what the other one did


def test_the_lock_of_a_killed_writer_is_gone(tmp_path):
    start(tmp_path / "index")
    ready, write = os.pipe()
    child = os.fork()
    if not child:
        with Gallery.open(tmp_path / "index").writing():
            os.write(write, b".")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    gallery = Gallery.open(tmp_path / "index")
    with pytest.raises(GalleryError, match=f"process {child} on"):
        gallery.remove(["a"])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    gallery.remove(["a"])
    assert "a" not in gallery


def test_a_reader_keeps_its_state(tmp_path):
    start(tmp_path / "index")
    reader, writer = Gallery.open(tmp_path / "index"), Gallery.open(tmp_path / "index")
    put(writer, writer.replace, ["a"], 9)
    writer.remove(["d"])
    writer.compact()
    hits = reader.search(np.array([1.0, 1.0]), k=9)[0]
    assert [(h.item.id, h.score) for h in hits] == [("a", 0), ("c", 0), ("d", -2)]
    reader.refresh()
    hits = reader.search(np.array([1.0, 1.0]), k=9)[0]
    assert [(h.item.id, h.score) for h in hits] == [("c", 0), ("a", -128)]


def test_readers_beside_a_writer_see_whole_states(tmp_path):
    """Each state holds equal vectors in all items; a mixture of two states would show."""
    folder = tmp_path / "index"
    names = [f"i{n}" for n in range(6)]
    gallery = Gallery.create(folder, MatchScorer(np.array([-1.0, -1.0])))
    put(gallery, gallery.add, names, 0)
    child = os.fork()
    if not child:
        try:
            writer = Gallery.open(folder)
            for value in range(1, 25):
                put(writer, writer.replace, names, value)
                writer.compact()
            os._exit(0)
        except BaseException:
            os._exit(1)
    seen, status = [], 0
    while not (status := os.waitpid(child, os.WNOHANG))[0]:
        values = content(folder)
        assert len(values) == 6
        assert len(set(values.values())) == 1
        seen.append(values["i0"])
    assert status[1] == 0
    assert seen == sorted(seen)
    assert content(folder)["i0"] == 24


def test_lost_or_damaged_files_are_named(tmp_path):
    start(tmp_path / "index")
    folder = tmp_path / "index"
    segment = folder / "segments" / Gallery.open(folder)._snapshot.segments[0].name
    with open(segment / "vectors.f32", "ab") as file:
        file.write(b"more")
    with pytest.raises(GalleryError, match=r"vectors.f32 is damaged: expected 24 bytes, found 28"):
        Gallery.open(folder)
    shutil.rmtree(segment)
    with pytest.raises(GalleryError, match=r"index is damaged: .*segment.json"):
        Gallery.open(folder)
