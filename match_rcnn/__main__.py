"""``python -m match_rcnn``: the command ``match-rcnn``."""

import sys

from match_rcnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
