#!/usr/bin/env python
"""The command ``match-rcnn accuracy`` (match_rcnn/commands/accuracy.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("accuracy")
