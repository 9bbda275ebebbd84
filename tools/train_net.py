#!/usr/bin/env python
"""The command ``match-rcnn train`` (match_rcnn/commands/train.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("train")
