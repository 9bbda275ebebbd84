#!/usr/bin/env python
"""The command ``match-rcnn convert clothing`` (match_rcnn/commands/convert_clothing.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("convert clothing")
