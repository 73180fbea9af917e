"""Rows that wait on disk while they cannot be written: bounded, checksummed, and there after a process was killed.

Not for: when rows go there (`recorder.py`).
"""
