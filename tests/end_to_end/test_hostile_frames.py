"""Frames that no client of gRPC sends: whatever they end, the next call is answered."""

from __future__ import annotations

import socket

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from tests.fuzz.targets.framing import END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, literal
from tests.parts.grpc_client import connect
from tests.parts.mixer_process import Mixer, eventually


def send_bad_path(mixer: Mixer) -> None:
    """A request whose `:path` is no UTF-8, for which gRPC's server in Python ends its loop."""
    path = b"\0\x05:path\x04/\xfa/x"
    fields = [literal(":method", "POST"), literal(":scheme", "http"), path, literal(":authority", "m")]
    fields += [literal("te", "trailers"), literal("content-type", "application/grpc")]
    with socket.create_connection(("127.0.0.1", mixer.grpc), 60) as line:
        line.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, b"".join(fields)))
        eventually(lambda: mixer.metric("mixer_worker_restarts_total") >= 1, "another worker")


def test_a_path_that_is_no_text_costs_a_worker_and_not_the_service(make_mixer):
    mixer: Mixer = make_mixer(telemetry={"clickhouse": None})
    mixer.start()
    before = mixer.worker()
    send_bad_path(mixer)
    eventually(lambda: mixer.worker() != before, "another worker")

    def answered() -> bool:
        try:
            with connect(mixer.address) as client:
                answer: CheckResponse = client.check(CheckRequest())
        except grpc.RpcError:
            return False
        return answer.status.code == 0

    assert eventually(answered, "an answer")
