"""Scores of DeepFashion (2016): categories, attributes, landmarks, retrieval."""
