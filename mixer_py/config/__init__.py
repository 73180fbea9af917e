"""Compose the rooms' settings from file, environment and command line."""

from mixer_py.config.address import Address, parse_address
from mixer_py.config.configuration import Configuration
from mixer_py.config.loading import DEFAULT_FILES, find_file, load
from mixer_py.config.log import LogSettings
from mixer_py.config.redaction import redacted
from mixer_py.config.secrets import secret_faults
from mixer_py.config.server import ListenerSettings, ServerSettings
from mixer_py.config.sockets import socket_candidates, socket_path

__all__ = [
    "DEFAULT_FILES",
    "Address",
    "Configuration",
    "ListenerSettings",
    "LogSettings",
    "ServerSettings",
    "find_file",
    "load",
    "parse_address",
    "redacted",
    "secret_faults",
    "socket_candidates",
    "socket_path",
]
