"""Carry bytes between the network and tables of handlers."""
