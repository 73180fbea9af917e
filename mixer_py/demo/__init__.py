"""The whole of mixer-py on one machine, with a real Envoy in front of two services: `mixer demo`."""

from mixer_py.demo.show import run

__all__ = ["run"]
