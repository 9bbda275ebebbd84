#!/usr/bin/env python
"""The command ``match-rcnn ablation`` (match_rcnn/commands/ablation.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("ablation")
