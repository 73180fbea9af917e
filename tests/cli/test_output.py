"""What is printed keeps its meaning and never commands a terminal."""

import json
import unicodedata

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer_py.cli.output import print_json, print_json_text, print_table, printable

TEXT = st.text(max_size=60)
DIRECTIONS = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
capture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def commands(text):
    """Characters that a terminal obeys."""
    return [one for one in text if one in DIRECTIONS or (unicodedata.category(one) == "Cc" and one != "\n")]


@given(TEXT)
def test_printable_text_has_no_control_characters(text):
    assert not commands(printable(text))
    assert "\n" not in printable(text)


def test_other_text_stays_as_it_is():
    assert printable("Grüße, 世界 ✓") == "Grüße, 世界 ✓"
    assert printable("\x1b]0;x\x07\n\t\x9b\x7f\u202e") == r"\x1b]0;x\x07\n\t\x9b\x7f\u202e"


@capture
@given(st.recursive(st.one_of(TEXT, st.integers(), st.none(), st.booleans()), lambda one: st.lists(one, max_size=3)))
def test_json_is_one_line_with_the_same_meaning(capsys, document):
    print_json(document)
    out = capsys.readouterr().out
    assert not commands(out)
    assert out.count("\n") == 1
    assert json.loads(out) == document


@capture
@given(st.dictionaries(TEXT, TEXT, max_size=3))
def test_json_from_elsewhere_keeps_its_meaning(capsys, document):
    print_json_text(json.dumps(document, ensure_ascii=False))
    out = capsys.readouterr().out
    assert not commands(out)
    assert json.loads(out) == document


@capture
@given(st.lists(st.tuples(TEXT, TEXT), max_size=4))
def test_a_table_has_a_line_for_each_row(capsys, rows):
    print_table(("a", "[bold]b"), rows)
    out = capsys.readouterr().out
    assert not commands(out)
    assert len(out.splitlines()) == len(rows) + 1
    assert "[bold]b" in out
