#!/usr/bin/env python
"""The command ``match-rcnn evaluate`` (match_rcnn/commands/evaluate.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("evaluate")
