"""Counters in Redis or Valkey, shared by every process that asks: one script call for all that wait in one turn.

Not for: what a URI may say (`addresses.py` beside this folder).
"""
