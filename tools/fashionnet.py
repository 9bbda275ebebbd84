#!/usr/bin/env python
"""The command ``match-rcnn fashionnet`` (match_rcnn/commands/fashionnet.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("fashionnet")
