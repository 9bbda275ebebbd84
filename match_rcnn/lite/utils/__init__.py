"""Processes, logging, events, registries, files, drawing."""
