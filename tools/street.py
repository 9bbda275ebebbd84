#!/usr/bin/env python
"""The command ``match-rcnn street`` (match_rcnn/commands/street.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("street")
