#!/usr/bin/env python
"""The command ``match-rcnn benchmark`` (match_rcnn/commands/benchmark.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("benchmark")
