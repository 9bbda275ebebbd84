#!/usr/bin/env python
"""The command ``match-rcnn compare-runs`` (match_rcnn/commands/compare_runs.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("compare-runs")
