"""The vocabulary of attributes, the bag that a check carries, and SPIFFE names."""

from mixer_py.attributes.bag import Bag
from mixer_py.attributes.vocabulary import ATTRIBUTES, VOCABULARY, Attribute, ValueType

__all__ = ["ATTRIBUTES", "VOCABULARY", "Attribute", "Bag", "ValueType"]
