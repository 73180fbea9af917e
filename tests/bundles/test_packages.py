"""The package that roots are held against is the one that the engine sees: else a bundle could leave its roots."""

from __future__ import annotations

import json

import regorus
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixer_py.policy.bundles.packages import package_of
from mixer_py.policy.rego.trees import ref_path

PIECES = st.sampled_from(
    ["package", "a", "b_1", ".", "[", "]", '"x"', '"x-y"', '""', " ", "\n", "\r\n", "\t", "#", ";", "`x`", "\\u0061",
     "0", "import",
     "\u00a0", "\f", "\v", "\ufeff", "\u2028", "é", "'", "(", "allow := 1", "{", "default", ":=", "_", "\0"]
)  # fmt: skip
HEADS = st.one_of(
    st.lists(PIECES, max_size=10).map("".join),
    st.lists(PIECES, max_size=8).map(lambda pieces: "package a" + "".join(pieces)),
    st.lists(PIECES, max_size=6).map(lambda pieces: "".join(pieces) + "package a.b\n"),
)


def package_of_the_engine(text: str) -> tuple[str, ...] | None:
    """None when the engine refuses the module."""
    engine = regorus.Engine()
    try:
        engine.add_policy("p.rego", text)
    except RuntimeError:
        return None
    (tree,) = json.loads(engine.get_ast_as_json())
    return ref_path(tree["ast"]["package"]["refr"]) or ()


@settings(max_examples=600, deadline=None)
@given(HEADS)
@example("# package x\npackage a.b\n")
@example('package a["x"]\n')
@example("package a\u2028.b\n")
@example("package a #\rpackage b\n")
def test_the_engine_sees_the_same_package(text: str) -> None:
    told, seen = package_of(text), package_of_the_engine(text)
    assert told is None or seen is None or told == seen
