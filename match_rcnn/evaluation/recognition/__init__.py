"""Scores of DeepFashion (2016): categories, attributes, landmarks, retrieval."""

from match_rcnn.evaluation.recognition.files import (
    TASKS,
    evaluate_manipulation,
    evaluate_recognition,
    evaluate_retrieval,
    scores_table,
)

__all__ = [
    "TASKS",
    "evaluate_manipulation",
    "evaluate_recognition",
    "evaluate_retrieval",
    "scores_table",
]
