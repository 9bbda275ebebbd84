#!/usr/bin/env python
"""The command ``match-rcnn convert df2`` (match_rcnn/commands/convert_df2.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("convert df2")
