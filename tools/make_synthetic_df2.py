#!/usr/bin/env python
"""The command ``match-rcnn generate`` (match_rcnn/commands/generate.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("generate")
