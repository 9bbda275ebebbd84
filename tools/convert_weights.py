#!/usr/bin/env python
"""The command ``match-rcnn convert weights`` (match_rcnn/commands/convert_weights.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("convert weights")
