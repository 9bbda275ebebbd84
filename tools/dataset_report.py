#!/usr/bin/env python
"""The command ``match-rcnn dataset-report`` (match_rcnn/commands/dataset_report.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("dataset-report")
