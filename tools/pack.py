#!/usr/bin/env python
"""The command ``match-rcnn pack`` (match_rcnn/commands/pack.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("pack")
