#!/usr/bin/env python
"""The command ``match-rcnn visualize`` (match_rcnn/commands/visualize.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("visualize")
