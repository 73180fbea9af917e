"""Envoy's configuration as plain data: what it starts with, and a listener.

What listens comes in a file of its own that Envoy watches, so that nothing listens before the one who answers is ready,
and a listener can be taken away while its calls end. Not for: writing files, or starting Envoy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mixer_py.errors import INTERNAL
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.health import METHOD

Resource = Mapping[str, Any]

_TYPE: Final = "type.googleapis.com/"
LISTENER: Final = f"{_TYPE}envoy.config.listener.v3.Listener"
_MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_MODULE_FILTER: Final = "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter"
_CONCURRENCY: Final = "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency"
_BOUND: Final = "bound"
"""Name of the filter that refuses what is too much."""
_NOT_FOR_THIS: Final = "envoy.config.route.v3.FilterConfig"
_MUTATION: Final = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_INTERNAL_LISTENER: Final = "envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
_PRESSURE: Final = "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig"
_SCALE_TIMERS: Final = "envoy.config.overload.v3.ScaleTimersOverloadActionConfig"
_MONITOR: Final = "envoy.resource_monitors.injected_resource"

BEGUN: Final = "mixer-begun"
"""The header in which Envoy says when a call came, in seconds since the epoch; a caller's own is overwritten."""
_START: Final = "%START_TIME(%s.%6f)%"
NOBODY: Final = "nobody"
"""The application of a listener that nobody can reach; it only makes Envoy load Python."""
INTERNAL_STATISTICS: Final = "mixer_inside"
"""What Envoy's numbers of internal listeners begin with, after `listener.`."""
_KIB: Final = 1 << 10
_MOST_HEADERS_KIB: Final = 8192
"""More Envoy does not let a listener take."""
_OWNER_ONLY: Final = 0o600
_IDLE: Final = "3600s"
_RARELY: Final = "3600s"
_STREAM_IDLE: Final = "300s"
_GOAWAY_PAUSE: Final = "1s"
"""Between the GOAWAY that lets calls on their way still come, and the one that ends the connection."""
_HANDSHAKE: Final = "30s"
"""Who has not shaken hands by then holds a descriptor for nothing."""
_ROOM_FOR_FRAMES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Application:
    """What pyvoy's filter calls.

    Attributes:
        module: pyvoy's dynamic module.
        name: `module:attribute` of the ASGI application.
    """

    module: Path
    name: str

    def beside(self, attribute: str) -> Application:
        """Another attribute of the same module."""
        return Application(self.module, f"{self.name.partition(':')[0]}:{attribute}")


@dataclass(frozen=True, slots=True)
class Manners:
    """Of a listener.

    Attributes:
        max_message_bytes: that it has to be able to hold.
        max_connection_age: seconds after which a connection gets GOAWAY.
        max_streams: calls that a connection may have open at once; one more is reset.
        max_metadata_bytes: of the headers of a call.
        max_waiting: calls that were handed to Python and have no answer yet; Envoy refuses one more with UNAVAILABLE.
    """

    max_message_bytes: int
    max_connection_age: float
    max_streams: int
    max_metadata_bytes: int
    max_waiting: int


def bootstrap(files: HostFiles, application: Application, node: str) -> Resource:
    """What Envoy starts with: no listener that anybody can reach, and its admin pages on a socket of this user's.

    Args:
        files: of this Envoy.
        application: whose module is loaded.
        node: what this Envoy is called.
    """
    host = {
        "name": NOBODY,
        "internal_listener": {},
        "filter_chains": [{"filters": [_manager(application.beside(NOBODY), Manners(0, 0.0, 1, _KIB, 1))]}],
    }
    return {
        "node": {"id": node, "cluster": "mixer"},
        "admin": {"address": _pipe(files.admin)},
        "bootstrap_extensions": [
            {"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": _TYPE + _INTERNAL_LISTENER}}
        ],
        "dynamic_resources": {
            "lds_config": {
                "path_config_source": {
                    "path": str(files.listeners),
                    "watched_directory": {"path": str(files.folder)},
                }
            }
        },
        "static_resources": {"listeners": [host]},
        "overload_manager": _hurry(files.hurry),
        "stats_flush_on_admin": True,
    }


def _hurry(file: Path) -> Resource:
    """Lets idle connections get their GOAWAY at once when the file says 1: Envoy gives them none when it drains."""
    return {
        "refresh_interval": "0.05s",
        "resource_monitors": [{"name": _MONITOR, "typed_config": {"@type": _TYPE + _PRESSURE, "filename": str(file)}}],
        "actions": [
            {
                "name": "envoy.overload_actions.reduce_timeouts",
                "triggers": [{"name": _MONITOR, "scaled": {"scaling_threshold": 0.5, "saturation_threshold": 1.0}}],
                "typed_config": {
                    "@type": _TYPE + _SCALE_TIMERS,
                    "timer_scale_factors": [{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "0.001s"}],
                },
            }
        ],
    }


def listener(
    name: str,
    places: Sequence[Resource],
    application: Application,
    manners: Manners,
    transport_socket: Resource | None = None,
) -> Resource:
    """One listener.

    Args:
        name: of the listener.
        places: its addresses, from `tcp` or `unix`; none for an internal listener, found by its name.
        application: what answers there.
        manners: of the listener.
        transport_socket: how it speaks TLS; None for plaintext.
    """
    speaks = (
        {}
        if transport_socket is None
        else {"transport_socket": transport_socket, "transport_socket_connect_timeout": _HANDSHAKE}
    )
    where: Resource = {"stat_prefix": INTERNAL_STATISTICS, "internal_listener": {}}
    if places:
        more = [{"address": place} for place in places[1:]]
        where = {"stat_prefix": name, "address": places[0], "additional_addresses": more}
    return {
        "@type": LISTENER,
        "name": name,
        **where,
        "per_connection_buffer_limit_bytes": manners.max_message_bytes + _ROOM_FOR_FRAMES,
        "filter_chains": [{"filters": [_manager(application, manners, lasting=not places)], **speaks}],
    }


def tcp(host: str, port: int, *, both_families: bool) -> Resource:
    """A TCP address; `both_families` lets IPv4 in where every IPv6 address is listened on."""
    return {"socket_address": {"address": host, "port_value": port, "ipv4_compat": both_families}}


def unix(path: str) -> Resource:
    """A unix socket that only this user can open."""
    return _pipe(Path(path))


def _pipe(path: Path) -> Resource:
    return {"pipe": {"path": str(path), "mode": _OWNER_ONLY}}


def _manager(application: Application, manners: Manners, *, lasting: bool = False) -> Resource:
    """What carries calls; connections from within the same Envoy are `lasting`, for nothing is gained by their end."""
    age = {"max_connection_duration": f"{manners.max_connection_age:.3f}s"} if manners.max_connection_age else {}
    config = {
        "@type": _TYPE + _MANAGER,
        "stat_prefix": "inside" if lasting else "calls",
        "codec_type": "HTTP2",
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "common_http_protocol_options": {"idle_timeout": "0s" if lasting else _IDLE, **({} if lasting else age)},
        "http2_protocol_options": {
            "max_concurrent_streams": manners.max_streams,
            "override_stream_error_on_invalid_http_message": True,  # a bad call is no reason to end the others
        },
        # A caller's own word of its certificate is removed, also where there is no TLS.
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"cert": True},
        "max_request_headers_kb": min(-(-manners.max_metadata_bytes // _KIB), _MOST_HEADERS_KIB),
        "stream_idle_timeout": _STREAM_IDLE,
        "drain_timeout": _GOAWAY_PAUSE,
        "local_reply_config": {"mappers": [_no_success()]},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_health()]}]},
        "http_filters": [_bound(manners.max_waiting), _headers(), _python(application)],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _no_success() -> Resource:
    """To an exception that reaches it pyvoy answers with HTTP's 500 and gRPC's OK; a caller sees INTERNAL instead."""
    is_500 = {"op": "EQ", "value": {"default_value": 500, "runtime_key": "mixer.what_pyvoy_answers_for_an_exception"}}
    return {
        "filter": {"status_code_filter": {"comparison": is_500}},
        "headers_to_add": [_overwritten("grpc-status", str(INTERNAL))],
    }


def _bound(most: int) -> Resource:
    """Refuses calls above so many at once, by Envoy itself: in Python a refusal costs most of what an answer does.

    The filter is made to find such a number by itself, from latencies. Here it stays: what is least and most is one.
    """
    return {
        "name": _BOUND,
        "typed_config": {
            "@type": _TYPE + _CONCURRENCY,
            "gradient_controller_config": {
                "sample_aggregate_percentile": {"value": 50},
                "concurrency_limit_params": {"max_concurrency_limit": most, "concurrency_update_interval": _RARELY},
                "min_rtt_calc_params": {"min_concurrency": most, "fixed_value": _RARELY},
            },
        },
    }


def _health() -> Resource:
    """Whoever asks for health is no load, and has to learn that this is alive. A route decides nothing else here."""
    exempt = {"@type": _TYPE + _NOT_FOR_THIS, "disabled": True}
    return {
        "match": {"path": METHOD},
        "non_forwarding_action": {},
        "typed_per_filter_config": {_BOUND: exempt},
    }


def _headers() -> Resource:
    """Every caller gets trailers, and so the status: pyvoy drops them when the request has no `te: trailers`.

    And every call tells when it came: it may wait long for the loop, and its caller no longer for it.
    """
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": _TYPE + _MUTATION,
            "mutations": {"request_mutations": [_mutation("te", "trailers"), _mutation(BEGUN, _START)]},
        },
    }


def _mutation(key: str, value: str) -> Resource:
    return {"append": _overwritten(key, value)}


def _overwritten(key: str, value: str) -> Resource:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _python(application: Application) -> Resource:
    # The loop of asyncio's policy, which is the one of the worker: see `loop`.
    settings = {"app": application.name, "interface": "asgi", "loop": "asyncio", "lifespan": False}
    return {
        "name": "pyvoy",
        "typed_config": {
            "@type": _TYPE + _MODULE_FILTER,
            "dynamic_module_config": {"module": {"local": {"filename": str(application.module)}}},
            "filter_name": "pyvoy",
            "terminal_filter": True,
            "filter_config": {
                "@type": f"{_TYPE}google.protobuf.StringValue",
                "value": json.dumps(settings),
            },
        },
    }
