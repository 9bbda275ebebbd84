import logging
import re

import pytest

from match_rcnn.lite.utils.logger import setup_logger


@pytest.fixture
def name(request):
    """A logger's name of its own for each test, left as it was."""
    name = f"test_{request.node.name}"
    yield name
    logging.getLogger(name).handlers.clear()
    setup_logger.cache_clear()


class TestSetup:
    def test_console_and_file(self, name, tmp_path, capsys):
        logger = setup_logger(str(tmp_path / "out"), name=name)
        logging.getLogger(f"{name}.part").info("hello")
        logging.getLogger(f"{name}other").info("not ours")
        logger.warning("careful")
        console = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
        assert [line.split(" ", 2)[2] for line in console[:1]] == [f"{name}.part]: hello"]
        assert console[1].startswith("WARNING [")
        assert console[1].endswith(f"{name}]: careful")
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

    def test_our_own_name_is_short_on_the_console(self, tmp_path, capsys):
        logger = setup_logger(str(tmp_path / "a.log"), name="match_rcnn.lite.test_logger")
        logger.info("hello")
        logger.handlers.clear()
        setup_logger.cache_clear()
        assert " lite.test_logger]: " in re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
        assert " match_rcnn.lite.test_logger INFO" in (tmp_path / "a.log").read_text()

    def test_two_loggers_share_a_file(self, name, tmp_path):
        path = str(tmp_path / "log.txt")
        setup_logger(path, name=name).info("one")
        setup_logger(path, name=f"{name}.sub").info("two")
        assert len((tmp_path / "log.txt").read_text().splitlines()) == 2
