#!/usr/bin/env python
"""The command ``match-rcnn export`` (match_rcnn/commands/export.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("export")
