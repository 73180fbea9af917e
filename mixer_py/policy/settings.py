"""The keys of `policy:` in a configuration."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from mixer_py.policy.bundles.settings import (
    BundleKeySettings,
    BundleLimits,
    BundlePath,
    DataSettings,
    FetchSettings,
    Host,
    check_documents,
)
from mixer_py.policy.selection_settings import DecisionPath, DecisionSettings, check_names
from mixer_py.policy.shadow_settings import ShadowSettings
from mixer_py.settings import Duration, LocalPath, Secret, Settings

REGO_VERSIONS: Final = {"v0": 0, "v1": 1}
"""As manifests write what the setting names."""


class CacheSettings(Settings):
    """The cache of decisions."""

    entries: int = Field(default=10000, ge=0)
    """Decisions kept in each worker; 0 switches the cache off."""
    ttl: Duration = 60.0
    """How long a decision may be used again; a policy's `cache_ttl` can shorten it. 0s switches the cache off."""
    uses: int | None = Field(default=None, ge=1)
    """How often a decision may be used again; null for any number of times."""


class OpaSettings(Settings):
    """The OPA server that decides with `engine: opa`."""

    url: str = "http://127.0.0.1:8181"
    """Its address: `http://host:port`, `https://host:port`, or `unix:///path` of its socket."""
    timeout: Duration = 0.15
    """How long one decision may take, with everything."""
    connections: int = Field(default=64, ge=1)
    """Connections to it at most, in each worker; they are kept open and used again."""
    token: Secret | None = None
    """Sent as `Authorization: Bearer`."""
    ca: LocalPath | None = None
    """Certificates in PEM that are trusted in place of the system's."""
    health_interval: Duration = 5.0
    """How often it is asked for its health."""

    @field_validator("url")
    @classmethod
    def _url_is_a_servers(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{value!r} is no URL: {error}") from None
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL must not hold a user or a password; write policy.opa.token")
        if parts.scheme == "unix" and not host and parts.path and not parts.query and not parts.fragment:
            return value
        if parts.scheme in {"http", "https"} and host and port != 0 and parts.path in {"", "/"} and not parts.query:
            return value
        raise ValueError(f"{value!r} is no server's; write http://host:port, https://host:port or unix:///path")

    @field_validator("timeout", "health_interval")
    @classmethod
    def _time_is_positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("must be above 0; write a duration such as 150ms")
        return value


class PolicySettings(Settings):
    """Which policies decide, and what happens when they cannot."""

    engine: Literal["embedded", "opa"] = "embedded"
    """What evaluates Rego: `embedded` in this process, or an `opa` server, which has its own bundles and data."""
    bundles: tuple[BundlePath, ...] = ()
    """Folders, .rego, .json or .yaml files, and OPA bundle archives (.tar.gz), also by http(s) URL, that hold policies
    and their data. With none, every check is denied."""
    rego_version: Literal["v0", "v1"] = "v1"
    """The version of Rego that policies are written in, where a bundle's manifest does not say it: `v0` for those that
    OPA runs with `--v0-compatible`. With `engine: opa` it is for the OPA server to say."""
    bundle_keys: dict[str, BundleKeySettings] = Field(default_factory=dict)
    """Keys that verify signatures of bundles, by name. With any, a bundle that is not signed is refused."""
    bundle_limits: BundleLimits = BundleLimits()
    """How large a bundle archive may be."""
    data_hosts: tuple[Host, ...] = ()
    """Hosts from which documents of `data` may be fetched: `host`, or `host:port`."""
    data: dict[str, DataSettings] = Field(default_factory=dict)
    """JSON documents that are fetched, by their place in `data`: `jwks`, or `keys.jwks`."""
    fetch: FetchSettings = FetchSettings()
    """How bundles and documents are fetched over HTTP(S)."""
    decision: DecisionPath = "envoy/authz/allow"
    """Path of the rule whose value is the decision, as opa-envoy-plugin's `path`."""
    decisions: tuple[DecisionSettings, ...] = ()
    """Decisions for some of the requests, tried in order; what none of them is for, `decision` decides."""
    on_error: Literal["error", "deny", "allow"] = "error"
    """When a policy cannot be decided: fail the call, so that Envoy's failure_mode_allow decides, or deny, or allow."""
    shadow: ShadowSettings | None = None
    """A candidate that decides a share of the checks too, in a process of its own, and changes no answer."""
    dry_run: bool = False
    """Answer a denial with OK; decision log and metadata keep the real verdict. Errors stay errors."""
    attribute_values: Literal["numbers", "protojson"] = "numbers"
    """How times, enums and 64-bit integers stand in `input.attributes`: as opa-envoy-plugin has given them since 2025
    (`{seconds, nanos}` and numbers), or as before (`protojson`: RFC 3339 text, names and text)."""
    skip_request_body_parse: bool = False
    """Leave `parsed_body` and `truncated_body` out of the input."""
    proto_descriptor: LocalPath | None = None
    """A FileDescriptorSet by which gRPC bodies are parsed, made by `protoc --include_imports --descriptor_set_out`."""
    cache: CacheSettings = CacheSettings()
    """The cache of decisions."""
    opa: OpaSettings = OpaSettings()
    """The OPA server of `engine: opa`."""
    max_stall: Duration = 1.0
    """CPU time that one evaluation may take; above it the worker is replaced."""

    @field_validator("data")
    @classmethod
    def _documents_are_allowed(cls, value: dict[str, DataSettings], info: ValidationInfo) -> dict[str, DataSettings]:
        check_documents(value, info.data.get("data_hosts", ()))
        return value

    @field_validator("bundles", "data")
    @classmethod
    def _opa_has_its_own(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("engine") == "opa":
            raise ValueError(
                f"with engine: opa, policies and data are OPA's; leave {info.field_name} out and configure the OPA "
                "server, or use engine: embedded"
            )
        return value

    @field_validator("decisions")
    @classmethod
    def _names_are_different(cls, value: tuple[DecisionSettings, ...]) -> tuple[DecisionSettings, ...]:
        check_names(value)
        return value

    @field_validator("max_stall")
    @classmethod
    def _stall_is_positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("max_stall must be above 0; write a duration such as 1s")
        return value
