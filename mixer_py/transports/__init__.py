"""Carry bytes between the network and tables of handlers; knows nothing of what they mean."""

from mixer_py.transports.admission import Admission
from mixer_py.transports.forwarding import Forwarder
from mixer_py.transports.grpcio import GrpcioServer, ServerLimits
from mixer_py.transports.handlers import HandlerTable

__all__ = ["Admission", "Forwarder", "GrpcioServer", "HandlerTable", "ServerLimits"]
