"""The case folders of the rate limit service over gRPC by both transports, and through Envoy: one mixer for all cases
with the same settings, each case a domain of its own.

Left to the offline run: cases that move the clock, and durations until a reset.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import json_format

from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT
from tests.ratelimit.rate_limit_cases import fits, request_of, settings_of

pytestmark = pytest.mark.envoy

PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
ALLOW_ALL = "package envoy.authz\n\nallow := true\n"
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
    """Whether route actions make this request: no overrides, no hits of the whole request, nothing empty."""
    request = step["request"]
    if "error" in step or "hitsAddend" in request or not request.get("domain") or not request.get("descriptors"):
        return False
    return all(
        {"entries"} <= descriptor.keys() <= {"entries", "hitsAddend", "isNegativeHits"}
        and descriptor["entries"]
        and all(entry.get("key") and entry.get("value") for entry in descriptor["entries"])
        for descriptor in request["descriptors"]
    )


THROUGH_ENVOY = [folder for folder in FOLDERS if all(map(can_pass_envoy, read_steps(folder)))]


def own_domain(way: str, case: str, domain: str) -> str:
    """The domain of a case on one of the ways, so that no two of them count together."""
    return f"{way}.{case}.{domain}" if domain else ""


def with_own_domain(value: Any, way: str, case: str, domains: set[str]) -> Any:
    """The same answer, with the limits' names moved to the case's own domain."""
    if isinstance(value, dict):
        moved = {key: with_own_domain(item, way, case, domains) for key, item in value.items()}
        if value.get("domain") in domains:  # of `rate_limit.metadata`
            moved["domain"] = own_domain(way, case, value["domain"])
        return moved
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


class Installation:
    """Mixers and the Envoys before them, one of each for every kind of settings; started when first needed."""

    def __init__(self, make_mixer: Callable[[Path], Mixer], make_envoy: Callable[[Mixer], EnvoyProxy]) -> None:
        self._make_mixer = make_mixer
        self._make_envoy = make_envoy
        self._mixers: dict[str, Mixer] = {}
        self._envoys: dict[str, EnvoyProxy] = {}

    def mixer(self, folder: Path) -> Mixer:
        settings = settings_of(folder)
        kind = json.dumps(settings, sort_keys=True)
        if kind not in self._mixers:
            mixer = self._mixers[kind] = self._make_mixer(Path(f"kind-{len(self._mixers)}"))
            mixer.use_both()
            mixer.write("policy/policy.rego", ALLOW_ALL)
            for case in FOLDERS:
                if settings_of(case) == settings:
                    install(mixer, case)
            mixer.configure({"policy": {"bundles": ["policy"]}, "rate_limit": {**settings, "config": ["limits"]}})
            mixer.start()
        return self._mixers[kind]

    def envoy(self, folder: Path) -> EnvoyProxy:
        settings = settings_of(folder)
        kind = json.dumps(settings, sort_keys=True)
        if kind not in self._envoys:
            envoy = self._envoys[kind] = self._make_envoy(self.mixer(folder))
            cases = [case for case in THROUGH_ENVOY if settings_of(case) == settings]
            envoy.start(edit=lambda bootstrap: add_routes(bootstrap, cases))
        return self._envoys[kind]


def install(mixer: Mixer, folder: Path) -> None:
    """Writes the rules of a case, once for each way."""
    for number, path in enumerate(config_files(folder)):
        document = yaml.safe_load(path.read_text())
        domain = str(document["domain"])
        for way in ("grpcio", "inside", "envoy"):
            document["domain"] = own_domain(way, folder.name, domain)
            mixer.write(f"limits/{folder.name}-{way}-{number}.yaml", yaml.safe_dump(document))


@pytest.fixture(scope="module")
def installation(module_programs, ports, tmp_path_factory, make_module_envoy) -> Installation:
    root = tmp_path_factory.mktemp("mixers")
    return Installation(lambda name: Mixer(module_programs, ports, root / name), make_module_envoy)


def add_routes(bootstrap: Bootstrap, cases: Iterable[Path]) -> None:
    """A route for each step, whose actions make the step's descriptors.

    They stand in the filter's own configuration of the route, where Envoy knows hits.
    """
    host = manager(bootstrap)["route_config"]["virtual_hosts"][0]
    pattern = copy.deepcopy(host["routes"][0])
    pattern["route"].pop("rate_limits", None)
    host["routes"] = []
    for folder in cases:
        for number, step in enumerate(read_steps(folder)):
            route = copy.deepcopy(pattern)
            route.update(name=f"{folder.name}-{number}", match={"path": f"/{folder.name}/{number}"})
            settings = {
                "@type": PER_ROUTE,
                "domain": own_domain("envoy", folder.name, step["request"]["domain"]),
                "rate_limits": [limit_of(descriptor) for descriptor in step["request"]["descriptors"]],
            }
            route["typed_per_filter_config"] = {"envoy.filters.http.ratelimit": settings}
            host["routes"].append(route)


def limit_of(descriptor: dict[str, Any]) -> dict[str, Any]:
    actions = [
        {"generic_key": {"descriptor_key": entry["key"], "descriptor_value": entry["value"]}}
        for entry in descriptor["entries"]
    ]
    if "hitsAddend" not in descriptor:
        return {"actions": actions}
    hits = {"number": int(descriptor["hitsAddend"])}
    if descriptor.get("isNegativeHits"):
        hits["is_negative_hits"] = True
    return {"actions": actions, "hits_addend": hits}


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
        assert fits(part, whole), f"{where}: {whole}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_case_over_grpc(folder: Path, installation: Installation):
    mixer = installation.mixer(folder)
    for way, address in (("grpcio", mixer.address), ("inside", mixer.second)):
        with connect(address) as client:
            run_over_grpc(folder, client, way)


def run_over_grpc(folder: Path, client: Client, way: str) -> None:
    domains = domains_of(folder)
    for number, step in enumerate(read_steps(folder)):
        request = request_of(step["request"])
        request.domain = own_domain(way, folder.name, request.domain)
        if "error" in step:
            with pytest.raises(grpc.RpcError) as failure:
                client.limit(request)
            assert failure.value.code().name == step["error"]["status"]
            assert step["error"]["message"] in failure.value.details()
            continue
        answer = json_format.MessageToDict(client.limit(request), always_print_fields_with_no_presence=True)
        assert_part(with_own_domain(step["want"], way, folder.name, domains), answer, f"{way}: step {number}")


@pytest.mark.parametrize("folder", THROUGH_ENVOY, ids=lambda folder: folder.name)
def test_case_through_envoy(folder: Path, installation: Installation):
    envoy = installation.envoy(folder)
    for number, step in enumerate(read_steps(folder)):
        response = envoy.request(f"/{folder.name}/{number}")
        over = step["want"]["overallCode"] == "OVER_LIMIT"
        assert response.status == (429 if over else 200), f"step {number}: {response}"
        limits = [status for status in step["want"].get("statuses", ()) if status.get("currentLimit")]
        if len(limits) == 1 and "limitRemaining" in limits[0]:  # of several, Envoy shows the least
            assert response.header("x-ratelimit-remaining") == str(limits[0]["limitRemaining"]), f"step {number}"
        for name, value in step.get("envoy", {}).items():
            assert fits(value, response.header(name) or None), f"step {number}: {name}: {response.header(name)}"


def test_there_are_cases_for_both():
    assert len(FOLDERS) >= 15
    assert len(THROUGH_ENVOY) >= 8
