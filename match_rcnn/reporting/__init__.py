"""Reports of runs and of data sets: self-contained HTML pages and Markdown files.

- ``numbers``: what a run left behind and its scores, what it does well and badly, what is in a
  data set.
- ``charts``: numbers as SVG, photos as JPEG inside the page.
- ``tables``: the paper's tables; ``pages`` and ``templates``: HTML and Markdown.
- ``run_report`` (``tools/report.py``), ``dataset_report`` (``tools/dataset_report.py``) and
  ``loss_report`` (``tools/compare_runs.py``) put them together.
"""
