#!/usr/bin/env python
"""The command ``match-rcnn retrieval-baseline`` (match_rcnn/commands/retrieval_baseline.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("retrieval-baseline")
