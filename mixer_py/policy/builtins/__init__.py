"""Rego's builtins in Python: which there are, those that the embedded engine lacks, and those it gets wrong."""
