"""What Istio makes of deploy/istio, as far as that can be had without Istio: its MeshConfig message, and an Envoy.

The message is compiled from Istio's own .proto files. The Envoy is the shipped one with what istiod is known to write
for providers in the place of ours, and the EnvoyFilter's patches applied; istiod itself is not run.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from grpc_tools import protoc

from tests.deploy.objects import Document
from tests.parts.envoy_proxy import Bootstrap, http_filter, manager
from tests.parts.go_modules import module_folder

CLUSTER: Final = "outbound|9091||mixer.mesh.svc.cluster.local"
"""What istiod calls the cluster of mixer's service."""
_LISTS_ARE_ADDED: Final = "MERGE"


def parse_mesh_config(folder: Path, document: Mapping[str, Any]) -> Message:
    """A MeshConfig, or google.protobuf.json_format.ParseError where it names what there is not."""
    googleapis = importlib.util.find_spec("google.api")
    assert googleapis is not None
    assert googleapis.submodule_search_locations is not None
    compiled = folder / "mesh.pb"
    arguments = [
        "protoc",
        f"-I{module_folder('istio.io/api')}",
        f"-I{Path(next(iter(googleapis.submodule_search_locations))).parents[1]}",
        f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
        "--include_imports",
        f"--descriptor_set_out={compiled}",
        "mesh/v1alpha1/config.proto",
    ]
    assert protoc.main(arguments) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file:
        pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.mesh.v1alpha1.MeshConfig"))()
    return json_format.ParseDict(dict(document), made)


def write_providers(bootstrap: Bootstrap, providers: Mapping[str, Document], mode: str) -> None:
    """Puts what istiod writes for providers into an Envoy configuration."""
    for cluster in bootstrap["static_resources"]["clusters"]:
        if cluster["name"] == "mixer":
            cluster["name"] = cluster["load_assignment"]["cluster_name"] = CLUSTER
    check = providers["mixer"]["envoyExtAuthzGrpc"]
    body = check["includeRequestBodyInCheck"]
    service = {"envoy_grpc": {"cluster_name": CLUSTER, "authority": check["service"]}, "timeout": check["timeout"]}
    authorization = http_filter(bootstrap, "ext_authz")
    kind = authorization["@type"]
    authorization.clear()
    authorization |= {
        "@type": kind,
        "transport_api_version": "V3",
        "grpc_service": service,
        "failure_mode_allow": check["failOpen"],
        "status_on_error": {"code": int(check["statusOnError"])},
        "with_request_body": {
            "max_request_bytes": body["maxRequestBytes"],
            "allow_partial_message": body["allowPartialMessage"],
            "pack_as_bytes": body["packAsBytes"],
        },
    }
    log = providers[f"mixer-http-{mode}"]["envoyHttpAls"]
    logger = manager(bootstrap)["access_log"][0]["typed_config"]
    logger["common_config"]["log_name"] = log["logName"]
    logger["common_config"]["grpc_service"] = {"envoy_grpc": {"cluster_name": CLUSTER}}
    logger["additional_request_headers_to_log"] = log["additionalRequestHeadersToLog"]
    logger["additional_response_headers_to_log"] = log["additionalResponseHeadersToLog"]
    logger["additional_response_trailers_to_log"] = log["additionalResponseTrailersToLog"]
    filters = manager(bootstrap)["http_filters"]
    filters[:] = [candidate for candidate in filters if not candidate["name"].endswith(".ratelimit")]
    hosts = manager(bootstrap)["route_config"]["virtual_hosts"]
    for route in (route for host in hosts for route in host["routes"]):
        route["route"].pop("rate_limits", None)


def apply_patch(bootstrap: Bootstrap, patch: Document) -> None:
    """Applies one entry of an EnvoyFilter's configPatches, as its operation says."""
    value, operation = copy.deepcopy(patch["patch"]["value"]), patch["patch"]["operation"]
    if patch["applyTo"] == "VIRTUAL_HOST":
        assert operation == _LISTS_ARE_ADDED
        for host in manager(bootstrap)["route_config"]["virtual_hosts"]:
            _merge(host, value)
        return
    assert patch["applyTo"] == "HTTP_FILTER"
    chain = patch["match"]["listener"]["filterChain"]["filter"]
    assert chain["name"] == "envoy.filters.network.http_connection_manager"
    filters = manager(bootstrap)["http_filters"]
    (place,) = [number for number, one in enumerate(filters) if one["name"] == chain["subFilter"]["name"]]
    if operation == "INSERT_BEFORE":
        filters.insert(place, value)
    else:
        assert operation == _LISTS_ARE_ADDED
        _merge(filters[place], value)


def _merge(into: Document, value: Mapping[str, Any]) -> None:
    """As protobuf merges messages: fields of messages one by one, lists put behind lists, all else replaced."""
    for key, new in value.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(new, Mapping):
            _merge(old, new)
        elif isinstance(old, list) and isinstance(new, list):
            into[key] = [*old, *new]
        else:
            into[key] = copy.deepcopy(new)
