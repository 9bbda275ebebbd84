"""Processes, logging, events, registries, files."""
