#!/usr/bin/env python
"""The command ``match-rcnn convert ccp`` (match_rcnn/commands/convert_ccp.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("convert ccp")
