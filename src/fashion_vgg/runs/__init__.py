"""Reads and compares the folders of runs."""
