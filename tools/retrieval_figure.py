#!/usr/bin/env python
"""The command ``match-rcnn retrieval-figure`` (match_rcnn/commands/retrieval_figure.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("retrieval-figure")
