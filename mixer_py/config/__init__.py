"""Compose the rooms' settings from file, environment and command line."""
