"""The vocabulary of attributes, the bag that a check carries, and SPIFFE names.

The bag is in `bag.py`, and not named here, because it loads Envoy's messages.
"""

from mixer_py.attributes.vocabulary import ATTRIBUTES, VOCABULARY, Attribute, ValueType

__all__ = ["ATTRIBUTES", "VOCABULARY", "Attribute", "ValueType"]
