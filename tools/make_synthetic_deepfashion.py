#!/usr/bin/env python
"""The command ``match-rcnn generate-deepfashion`` (match_rcnn/commands/generate_deepfashion.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("generate-deepfashion")
