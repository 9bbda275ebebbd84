#!/usr/bin/env python
"""The command ``match-rcnn report`` (match_rcnn/commands/report.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("report")
