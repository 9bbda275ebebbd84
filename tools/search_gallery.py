#!/usr/bin/env python
"""The command ``match-rcnn search`` (match_rcnn/commands/search.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("search")
