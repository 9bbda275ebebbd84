#!/usr/bin/env python
"""The command ``match-rcnn compare-hosts`` (match_rcnn/commands/compare_hosts.py)."""

from match_rcnn.cli import tool

if __name__ == "__main__":
    tool("compare-hosts")
