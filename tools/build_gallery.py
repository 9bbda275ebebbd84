#!/usr/bin/env python
"""The command ``match-rcnn index`` (match_rcnn/commands/index.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("index")
