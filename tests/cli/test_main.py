"""The program as a whole: which command runs, what it says when it cannot, and how it ends."""

import json
import re
import shlex
import subprocess
import sys

import pytest

import mixer_py
from mixer_py.cli import main as program
from mixer_py.cli import version
from mixer_py.cli.main import COMMANDS, parser_of
from mixer_py.errors import ConfigurationError, Fault


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_of_a_help_is_a_command_that_parses(name, mixer):
    parser, command = parser_of(name)
    shown = mixer(name, "--help")
    assert shown.code == 0
    assert command.EXAMPLES
    for example in command.EXAMPLES:
        assert example in shown.out
        words = shlex.split(re.sub(r" [<>] \S+$", "", example))
        assert words[:2] == ["mixer", name]
        parser.parse_args(words[2:])


def test_commands_of_later_versions_are_not_there():
    assert list(COMMANDS) == [
        "serve",
        "demo",
        "validate",
        "check",
        "test",
        "limits",
        "why",
        "tail",
        "query",
        "doctor",
        "version",
    ]


def test_help_lists_the_commands(mixer):
    result = mixer("--help")
    assert result.code == 0
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", result.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a command"),
        (["valdate"], "did you mean validate?"),
        (["zzz"], "the commands are serve"),
        (["--nonsense"], "name a command"),
        (["check"], "--request"),
        (["query"], "SQL"),
        (["validate", "--form", "json"], "unrecognized arguments"),
        (["validate", "--format", "xml"], "invalid choice"),
        (["check", "--request", "x", "--explian"], "unrecognized arguments: --explian"),
        (["check", "--request", "x", "--expect", "error"], "invalid choice"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(mixer, words, said):
    result = mixer(*words)
    assert result.code == 2
    assert said in result.err
    assert result.out == ""


def test_faults_are_printed_one_a_line_without_control_characters(mixer, monkeypatch):
    def fail(_arguments):
        raise ConfigurationError([Fault("bad \x1b[31m", "a.yaml", 3, "x.y"), Fault("worse", way_out="stop")])

    monkeypatch.setattr(version, "run", fail)
    result = mixer("version")
    assert result.code == 1
    assert result.err.splitlines() == ["mixer: a.yaml:3: x.y: bad \\x1b[31m", "mixer: worse (stop)"]


def test_an_interrupt_is_no_traceback(mixer, monkeypatch):
    def interrupt(_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(version, "run", interrupt)
    result = mixer("version")
    assert (result.code, result.err) == (130, "")


def test_a_reader_that_went_away_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "mixer_py.cli.main", "version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(60) == 141


def test_version_names_mixer_python_and_parts(mixer):
    result = mixer("version")
    assert result.code == 0
    assert re.search(rf"^mixer-py +{re.escape(mixer_py.__version__)}$", result.out, re.MULTILINE)
    found = json.loads(mixer("version", "--format", "json").out)
    assert found["mixer-py"] == mixer_py.__version__
    assert found["grpcio"]
    assert mixer("--version").out == result.out


def test_a_part_that_is_not_installed_is_said_to_be(mixer, monkeypatch):
    monkeypatch.setattr(version, "PARTS", ("no-such-part",))
    assert "no-such-part  not installed" in mixer("version").out
    assert json.loads(mixer("version", "--format", "json").out)["no-such-part"] is None


def test_version_starts_without_the_heavy_parts():
    code = (
        "import sys; from mixer_py.cli.main import main; main(['version']); "
        "sys.exit(' '.join({'pydantic', 'grpc', 'pyarrow', 'rich', 'regorus', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == ""


def test_serve_and_demo_hand_over_what_was_given(mixer, monkeypatch, tmp_path):
    from mixer_py import demo
    from mixer_py.cli import serve

    calls = []
    monkeypatch.setattr(serve, "serve", lambda *given: calls.append(given) or 0)
    monkeypatch.setattr(demo, "run", lambda **given: calls.append(given) or 1)
    assert mixer("serve", "-c", tmp_path / "m.yaml", "--set", "a=1", "--set", "b=2").code == 0
    assert mixer("demo", "--once").code == 1
    assert calls == [(tmp_path / "m.yaml", ["a=1", "b=2"]), {"once": True}]


def test_the_program_is_installed_under_its_name():
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="console_scripts", name="mixer")
    assert entry.load() is program.main


def test_serve_refuses_a_bad_configuration_before_it_starts_anything(mixer, tmp_path):
    (tmp_path / "mixer.yaml").write_text("server:\n  admn: x\n")
    result = mixer("serve")
    assert result.code == 1
    assert "mixer: mixer.yaml:2: server.admn: there is no such key (did you mean server.admin?)" in result.err
