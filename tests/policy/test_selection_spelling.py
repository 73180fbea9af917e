"""No spelling of a path or host slips into a decision that it is not for, whoever reads it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixer_py.policy.spelling import NO, UNCERTAIN, YES, Hosts, Match, PathPrefixes, is_plain, read_path


@dataclass(frozen=True)
class Server:
    """One way in which a server finds the segments of a path."""

    decodings: int
    splits_first: bool
    backslash: bool
    parameters: bool
    merges: bool
    resolves: bool
    windows: bool
    cuts: bool

    def read(self, path: str) -> list[str]:
        segments = path.split("/") if self.splits_first else [path]
        for _ in range(self.decodings):
            segments = [unquote(segment, errors="replace") for segment in segments]
        if self.cuts:
            path = re.split(r"[?#\0]", "\n".join(segments), maxsplit=1)[0]
            segments = path.split("\n") if self.splits_first else [path]
        if self.backslash:
            segments = [segment.replace("\\", "/") for segment in segments]
        segments = (
            [part for segment in segments for part in segment.split("/")]
            if not self.splits_first or (self.backslash)
            else segments
        )
        if self.parameters:
            segments = [segment.partition(";")[0] for segment in segments]
        if self.windows:
            segments = [part if set(part) <= {"."} else part.rstrip(" .").lower() for part in segments]
        first, rest = segments[0], segments[1:]
        assert first == ""
        if self.merges:
            rest = [segment for segment in rest if segment]
        if self.resolves:
            found: list[str] = []
            for segment in rest:
                if segment == "..":
                    del found[-1:]
                elif segment != ".":
                    found.append(segment)
            rest = found
        return rest


SERVERS = [Server(decodings, *flags) for decodings in (1, 2, 3) for flags in itertools.product((False, True), repeat=7)]
PIECES = ["/", "//", "a", "b", "A", "pay", "Pay", "x", "%61", "%2f", "%2F", "%5c", "\\", ".", "..", "%2e", "%252e",
          "%252f", "%2561", ";", ";x=1", "%3b", "%20", "%00", "%23", "#", "%3f", "%25", "%c0%af", "%c3%a9"]  # fmt: skip
paths = st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "/" + "".join(pieces))
prefixes = st.lists(st.sampled_from(["a", "b", "pay", "x", "aa", "é"]), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


def lies_under(segments: list[str], prefix: str) -> bool:
    wanted = prefix.split("/")[1:]
    return segments[: len(wanted)] == wanted


@given(path=paths, prefix=prefixes)
@example("/pay/../a", "/pay")
@example("/x/%252e%252e/pay", "/pay")
@example("//pay", "/pay")
@example("/pay;x/b", "/pay")
@example("/a%2fpay", "/a/pay")
@example("/PAY/x", "/pay")
@example("/a/..;/pay", "/pay")
def test_what_is_told_of_a_path_holds_for_every_server(path: str, prefix: str) -> None:
    told = PathPrefixes([prefix]).match(read_path(path))
    if told is UNCERTAIN:
        return
    for server in SERVERS:
        assert lies_under(server.read(path), prefix) is (told is YES), server


@given(
    path=st.lists(st.sampled_from(["a", "B", "pay", "/x", "/", "-", "~", ".js", "é", "@"]), max_size=6), prefix=prefixes
)
def test_the_quick_way_says_what_the_thorough_one_says(path: list[str], prefix: str) -> None:
    text = "/" + "".join(path)
    if is_plain(text):
        prefixes = PathPrefixes([prefix, "/pay"])
        assert prefixes.match_plain(text) is prefixes.match(read_path(text))


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("/pay", YES), ("/pay/", YES), ("/pay/card/7", YES), ("/%70ay/card", YES), ("/pay/a%2Fb", YES),
        ("/pay//card", YES), ("/pay/card;v=1", YES), ("/pay/caf%C3%A9", YES), ("/pay/caf%e9", YES),
        ("/payment", NO), ("/pays/x", NO), ("/", NO), ("", NO), ("*", NO), ("/x/pay", NO), ("/x%2fpay", NO),
        ("/index.html;jsessionid=7", NO), ("/x//pay", NO), ("/.well-known/x", NO),
        ("//pay", UNCERTAIN), ("/%2fpay", UNCERTAIN), ("/pay%2fcard", UNCERTAIN), ("/pay;a/card", UNCERTAIN),
        ("/PAY", UNCERTAIN), ("/pay./x", UNCERTAIN), ("/pay%20", UNCERTAIN), ("/p%2561y", UNCERTAIN),
        ("/%2570ay", UNCERTAIN), ("/pay/../x", UNCERTAIN), ("/x/../pay", UNCERTAIN), ("/x/./y", UNCERTAIN),
        ("/x/%2e%2e/pay", UNCERTAIN), ("/x/%252e%252e/pay", UNCERTAIN), ("/x/%25252e%25252e/pay", UNCERTAIN),
        ("/x/%c0%ae%c0%ae/pay", UNCERTAIN), ("/x\\..\\pay", UNCERTAIN), ("/x/%5c../pay", UNCERTAIN),
        ("/x/..;/pay", UNCERTAIN), ("/x/%00", UNCERTAIN), ("/pay#x", UNCERTAIN), ("/pay%3fx", UNCERTAIN),
        ("/%EF%BD%90ay", UNCERTAIN),  # a full-width p
        ("http://pay.example.com/pay", UNCERTAIN), ("pay", UNCERTAIN), ("\\pay", UNCERTAIN),
        ("/x/%" + "25" * 9 + "61", UNCERTAIN), ("/x/" + "%61" * 999, NO), ("/x/" + "%2561" * 999, UNCERTAIN),
    ],
)  # fmt: skip
def test_what_is_told_of_a_path(path: str, match: Match) -> None:
    prefixes = PathPrefixes(["/pay"])
    assert prefixes.match(read_path(path)) is match
    if is_plain(path):
        assert prefixes.match_plain(path) is match


def test_a_prefix_of_several_segments_waits_for_them_all() -> None:
    prefixes = PathPrefixes(["/a/b", "/c"])
    found = {
        path: prefixes.match(read_path(path)) for path in ("/a", "/a/b", "/a/bc", "/a//b", "/a%2fb", "/c/x", "/a/x")
    }
    assert found == {
        "/a": NO,
        "/a/b": YES,
        "/a/bc": NO,
        "/a//b": UNCERTAIN,
        "/a%2fb": UNCERTAIN,
        "/c/x": YES,
        "/a/x": NO,
    }
    assert PathPrefixes(["/"]).match(read_path("/any;thing")) is YES


@pytest.mark.parametrize(
    ("host", "match"),
    [
        ("pay.example.com", YES), ("PAY.Example.COM:8443", YES), ("pay.example.com.", YES), ("pay.example.com:", YES),
        ("a.b.example.org", YES), ("a.example.org:1", YES), ("shop.test", YES), ("shop.anything.at.all", YES),
        ("x-bar.foo.com", YES), ("[::1]:9", YES), ("[::1]", YES),
        ("example.org", NO), ("pay.example.com.evil.com", NO), ("xpay.example.com", NO), ("-bar.foo.com", NO),
        ("shop", NO), ("myshop.test", NO), ("[::2]", NO), ("", NO), ("10.0.0.1", NO),
        ("pay.example.com@evil.com", UNCERTAIN), ("pay.example.com,evil.com", UNCERTAIN),
        ("pay%2eexample.com", UNCERTAIN), ("pay.exämple.com", UNCERTAIN), (" pay.example.com", UNCERTAIN),
        ("pay.example.com:80:80", UNCERTAIN), ("pay..example.com", UNCERTAIN), (".example.org", UNCERTAIN),
        ("pay.example.com/x", UNCERTAIN), (":80", UNCERTAIN),
    ],
)  # fmt: skip
def test_what_is_told_of_a_host(host: str, match: Match) -> None:
    assert Hosts(["pay.example.com", "*.example.org", "shop.*", "*-bar.foo.com", "[::1]"]).match(host) is match
    assert Hosts(["*"]).match(host) is YES
