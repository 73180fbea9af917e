"""Tables of handlers: what a listener serves, by full gRPC method name.

A transport knows these tables and nothing about what the handlers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixer_py.calls import ClientStreamHandler, UnaryHandler


@dataclass(frozen=True, slots=True)
class HandlerTable:
    """The methods that one listener answers.

    Attributes:
        unary: full method name (`/package.Service/Method`) → handler.
        client_streams: the same for methods whose client sends a stream and gets one answer.
        health: answer the standard health service.
        health_names: what it knows besides the services of this table.
        reflection: answer server reflection, for every service of this table.
        names: full method name → what the settings call its service, where lists of peers are given by that.
    """

    unary: Mapping[str, UnaryHandler] = field(default_factory=dict)
    client_streams: Mapping[str, ClientStreamHandler] = field(default_factory=dict)
    health: bool = True
    health_names: tuple[str, ...] = ()
    reflection: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

    def service_names(self) -> tuple[str, ...]:
        """The services whose methods stand in the table, sorted."""
        methods = (*self.unary, *self.client_streams)
        return tuple(sorted({method.split("/")[1] for method in methods}))
