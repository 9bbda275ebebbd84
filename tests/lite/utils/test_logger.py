import logging
import re

import pytest

from match_rcnn.lite.utils.logger import create_small_table, setup_logger


@pytest.fixture
def name(request):
    """A logger's name of its own for each test, left as it was."""
    name = f"test_{request.node.name}"
    yield name
    logging.getLogger(name).handlers.clear()
    setup_logger.cache_clear()


class TestSetup:
    def test_console_and_file(self, name, tmp_path, capsys):
        logger = setup_logger(str(tmp_path / "out"), name=name, abbrev_name="short")
        logging.getLogger(f"{name}.part").info("hello")
        logging.getLogger(f"{name}other").info("not ours")
        logger.warning("careful")
        console = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
        assert [line.split(" ", 2)[2] for line in console[:1]] == ["short.part]: hello"]
        assert console[1].startswith("WARNING [")
        assert console[1].endswith("short]: careful")
        # The file has full names and no colours.
        lines = (tmp_path / "out" / "log.txt").read_text().splitlines()
        assert [line.split("] ")[1] for line in lines] == [
            f"{name}.part INFO: hello",
            f"{name} WARNING: careful",
        ]

    def test_again_adds_nothing(self, name):
        first = setup_logger(name=name)
        assert setup_logger(name=name) is first
        assert len(first.handlers) == 1
        assert not first.propagate

    def test_other_ranks(self, name, tmp_path, capsys):
        setup_logger(str(tmp_path / "a.log"), 3, name=name).info("hello")
        assert capsys.readouterr().out == ""
        assert "hello" in (tmp_path / "a.log.rank3").read_text()

    def test_plain_console(self, name, capsys):
        setup_logger(name=name, color=False).error("oh")
        assert re.fullmatch(rf"\[[^]]+\] {name} ERROR: oh\n", capsys.readouterr().out)

    def test_no_console(self, name, capsys):
        setup_logger(name=name, configure_stdout=False).error("oh")
        assert capsys.readouterr().out == ""

    def test_two_loggers_share_a_file(self, name, tmp_path):
        path = str(tmp_path / "log.txt")
        setup_logger(path, name=name).info("one")
        setup_logger(path, name=f"{name}.sub").info("two")
        assert len((tmp_path / "log.txt").read_text().splitlines()) == 2


def test_small_table():
    rows = create_small_table({"AP": 12.3456, "n": 3}).splitlines()
    assert [c.strip() for c in rows[0].strip("|").split("|")] == ["AP", "n"]
    assert [c.strip() for c in rows[2].strip("|").split("|")] == ["12.346", "3"]
