"""The case folders of the rate limit service over gRPC and through Envoy: one mixer, each case a domain of its own.

Left to the offline run: cases that move the clock, and durations until a reset.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import json_format

from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT

pytestmark = pytest.mark.envoy

PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
Step = dict[str, Any]


def read_steps(folder: Path) -> list[Step]:
    steps: list[Step] = json.loads((folder / "requests.json").read_text())
    return steps


FOLDERS = [
    folder
    for folder in sorted((ROOT / "tests" / "cases" / "rate_limit").iterdir())
    if not any("advance" in step for step in read_steps(folder))
]


def can_pass_envoy(step: Step) -> bool:
    """Whether plain route actions make this request: no overrides, no hits of its own, nothing empty."""
    request = step["request"]
    if "error" in step or "hitsAddend" in request or not request.get("domain") or not request.get("descriptors"):
        return False
    return all(
        descriptor.keys() == {"entries"}
        and descriptor["entries"]
        and all(entry.get("key") and entry.get("value") for entry in descriptor["entries"])
        for descriptor in request["descriptors"]
    )


THROUGH_ENVOY = [folder for folder in FOLDERS if all(map(can_pass_envoy, read_steps(folder)))]


def own_domain(way: str, case: str, domain: str) -> str:
    """The domain of a case on one of both ways, so that no two of them count together."""
    return f"{way}.{case}.{domain}" if domain else ""


def with_own_domain(value: Any, way: str, case: str, domains: set[str]) -> Any:
    """The same answer, with the limits' names moved to the case's own domain."""
    if isinstance(value, dict):
        return {key: with_own_domain(item, way, case, domains) for key, item in value.items()}
    if isinstance(value, list):
        return [with_own_domain(item, way, case, domains) for item in value]
    for domain in domains if isinstance(value, str) else ():
        own = own_domain(way, case, domain)
        for plain, moved in ((f"{domain}/", f"{own}/"), (f'"{domain}"/', f'"{own}"/')):
            if value.startswith(plain):
                return moved + value.removeprefix(plain)
    return value


def config_files(folder: Path) -> list[Path]:
    """What a rate-limit service would read of the case's folder."""
    if (folder / "config.yaml").exists():
        return [folder / "config.yaml"]
    found = [path for path in (folder / "config").rglob("*") if path.suffix in {".yaml", ".yml"}]
    return sorted(path for path in found if not path.name.startswith("."))


def domains_of(folder: Path) -> set[str]:
    return {str(yaml.safe_load(path.read_text())["domain"]) for path in config_files(folder)}


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer()
    for folder in FOLDERS:
        for number, path in enumerate(config_files(folder)):
            document = yaml.safe_load(path.read_text())
            for way in ("grpc", "envoy"):
                document["domain"] = own_domain(way, folder.name, str(yaml.safe_load(path.read_text())["domain"]))
                mixer.write(f"limits/{folder.name}-{way}-{number}.yaml", yaml.safe_dump(document))
    mixer.configure({"policy": {"bundles": ["policy"]}, "rate_limit": {"config": ["limits"]}})
    mixer.start()
    return mixer


@pytest.fixture(scope="module")
def client(mixer):
    with connect(mixer.address) as client:
        yield client


def add_routes(bootstrap: Bootstrap) -> None:
    """A route for each step, whose actions make the step's descriptors."""
    host = manager(bootstrap)["route_config"]["virtual_hosts"][0]
    pattern = copy.deepcopy(host["routes"][0])
    host["routes"] = []
    for folder in THROUGH_ENVOY:
        for number, step in enumerate(read_steps(folder)):
            route = copy.deepcopy(pattern)
            route.update(name=f"{folder.name}-{number}", match={"path": f"/{folder.name}/{number}"})
            route["route"]["rate_limits"] = [
                {
                    "actions": [
                        {"generic_key": {"descriptor_key": entry["key"], "descriptor_value": entry["value"]}}
                        for entry in descriptor["entries"]
                    ]
                }
                for descriptor in step["request"]["descriptors"]
            ]
            domain = own_domain("envoy", folder.name, step["request"]["domain"])
            settings = {"@type": PER_ROUTE, "domain": domain}
            route["typed_per_filter_config"] = {"envoy.filters.http.ratelimit": settings}
            host["routes"].append(route)


@pytest.fixture(scope="module")
def envoy(make_module_envoy, mixer) -> EnvoyProxy:
    envoy = make_module_envoy(mixer)
    envoy.start(edit=add_routes)
    return envoy


def assert_part(part: Any, whole: Any, where: str) -> None:
    """Objects are compared by the keys that `part` has, null for absent; lists as a whole."""
    if isinstance(part, dict):
        assert isinstance(whole, dict), where
        for key, value in part.items():
            if key != "durationUntilReset" or value is None:
                assert_part(value, whole.get(key), f"{where}.{key}")
    elif isinstance(part, list):
        assert isinstance(whole, list), where
        assert len(part) == len(whole), f"{where}: {whole}"
        for index, value in enumerate(part):
            assert_part(value, whole[index], f"{where}[{index}]")
    else:
        assert part == whole, where


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_case_over_grpc(folder: Path, client: Client):
    domains = domains_of(folder)
    for number, step in enumerate(read_steps(folder)):
        request = json_format.ParseDict(step["request"], rls_pb2.RateLimitRequest())
        request.domain = own_domain("grpc", folder.name, request.domain)
        if "error" in step:
            with pytest.raises(grpc.RpcError) as failure:
                client.limit(request)
            assert failure.value.code().name == step["error"]["status"]
            assert step["error"]["message"] in failure.value.details()
            continue
        answer = json_format.MessageToDict(client.limit(request), always_print_fields_with_no_presence=True)
        assert_part(with_own_domain(step["want"], "grpc", folder.name, domains), answer, f"step {number}")


@pytest.mark.parametrize("folder", THROUGH_ENVOY, ids=lambda folder: folder.name)
def test_case_through_envoy(folder: Path, envoy: EnvoyProxy):
    for number, step in enumerate(read_steps(folder)):
        response = envoy.request(f"/{folder.name}/{number}")
        over = step["want"]["overallCode"] == "OVER_LIMIT"
        assert response.status == (429 if over else 200), f"step {number}: {response}"
        limits = [status for status in step["want"].get("statuses", ()) if status.get("currentLimit")]
        if len(limits) == 1 and "limitRemaining" in limits[0]:  # of several, Envoy shows the least
            assert response.header("x-ratelimit-remaining") == str(limits[0]["limitRemaining"]), f"step {number}"


def test_there_are_cases_for_both():
    assert len(FOLDERS) >= 15
    assert len(THROUGH_ENVOY) >= 8
