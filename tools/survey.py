#!/usr/bin/env python
"""The command ``match-rcnn survey`` (match_rcnn/commands/survey.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("survey")
