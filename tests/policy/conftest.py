"""What the policy room's tests share: policies and requests made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Policy]:
    """A policy from texts by file name, or from one module's text."""

    def make(files: Mapping[str, str] | str, **settings: Any) -> Policy:
        named = {"policy.rego": files} if isinstance(files, str) else files
        folder = tmp_path / "bundle"
        for name, text in named.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        watch = settings.pop("watch", None)
        return Policy.load(PolicySettings(bundles=(str(folder),), **settings), watch=watch)

    return make


@pytest.fixture
def make_request() -> Callable[..., CheckRequest]:
    """A request as Envoy sends it."""

    def make(
        path: str = "/", method: str = "GET", headers: Mapping[str, str] | None = None, body: str = ""
    ) -> CheckRequest:
        request = CheckRequest()
        http = request.attributes.request.http
        http.path, http.method, http.body = path, method, body
        http.headers.update(headers or {})
        return request

    return make
