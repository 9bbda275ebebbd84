"""Reports of runs and of data sets: self-contained HTML pages and Markdown files.

- ``runs``: what a run left behind, and its scores; ``retrieval_part``: the same for retrieval.
- ``analysis``: confusion, calibration, landmark errors, the best and the worst images.
- ``published``, ``tables``: the paper's figures and tables.
- ``svg``, ``charts``, ``drawings``: plots; ``pictures``: photos; ``page``: HTML and Markdown.
- ``report`` (``tools/report.py``) and ``dataset`` (``tools/dataset_report.py``) put them together.
"""
