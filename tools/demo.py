#!/usr/bin/env python
"""The command ``match-rcnn demo`` (match_rcnn/commands/demo.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("demo")
