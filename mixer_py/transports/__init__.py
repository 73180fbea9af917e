"""Carry bytes between the network and tables of handlers; knows nothing of what they mean."""

from mixer_py.transports.admission import Admission
from mixer_py.transports.envoy.data_plane import DataPlaneListeners
from mixer_py.transports.envoy.host import EnvoyHost
from mixer_py.transports.envoy.server import EnvoyServer
from mixer_py.transports.forwarding import Forwarder
from mixer_py.transports.grpcio import GrpcioServer, ServerLimits
from mixer_py.transports.handlers import HandlerTable
from mixer_py.transports.server import Server
from mixer_py.transports.tls import ListenerTls

__all__ = [
    "Admission",
    "DataPlaneListeners",
    "EnvoyHost",
    "EnvoyServer",
    "Forwarder",
    "GrpcioServer",
    "HandlerTable",
    "ListenerTls",
    "Server",
    "ServerLimits",
]
