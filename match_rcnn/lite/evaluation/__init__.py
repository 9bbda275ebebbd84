"""Running a model over a data set, and judging what it finds."""

from .evaluator import DatasetEvaluator, DatasetEvaluators, inference_on_dataset
from .testing import flatten_results_dict, print_csv_format, verify_results

__all__ = [
    "DatasetEvaluator",
    "DatasetEvaluators",
    "flatten_results_dict",
    "inference_on_dataset",
    "print_csv_format",
    "verify_results",
]
