"""README and docs are run: every command, every configuration.

A document is run from its first block to its last in one empty folder, in which `mixer` and `envoy` are on the PATH.
A comment on the line before a fence says what a block is:

    <!-- run: file NAME -->    the block is the file NAME; later blocks may use it
    <!-- run: envoy -->        pieces of an Envoy configuration, which Envoy validates in place of the shipped ones
    <!-- run: envoy NAME -->   the same; the whole is the file NAME
    <!-- run: no, REASON -->   not run

`console` and `yaml` blocks need none. A `yaml` block by itself is a configuration that `mixer validate` accepts. In
`console` blocks a line with `$ ` is a command, and the lines under it are what it prints: in this
order, perhaps among others, with `…` for anything; without such lines it has to exit with 0. A command that ends
with `&` stays until the end of the document. Ports are replaced by free ones. `text` blocks are pictures.
"""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer_py.demo.parts import is_ready
from mixer_py.demo.processes import Ports, accepts
from mixer_py.envoy_parts import find_envoy
from tests.parts.envoy_proxy import SHIPPED, Bootstrap, manager
from tests.parts.presence import ROOT
from tests.parts.programs import Programs
from tests.project.documents import Block, Workplace, blocks, steps

DOCUMENTS = [
    path
    for path in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("**/*.md")])
    if any(block.language != "text" for block in blocks(path))
]
PORTS = (9091, 15014, 10000, 9901, 9080, 9081)
"""What documents name: mixer's, Envoy's, and those of the services behind it."""
LANGUAGES = {"console", "yaml", "json", "rego", "text", "sql"}
PICTURES = {"text"}
_ARRIVAL_SECONDS = 180.0
"""Of a whole document, on a machine that others keep busy: a candidate starts at the lowest priority."""


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.fixture
def workplace(tmp_path: Path, programs: Programs, ports: Ports) -> Workplace:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "mixer").symlink_to(Path(sys.executable).with_name("mixer"))
    (tools / "envoy").symlink_to(find_envoy())
    folder = tmp_path / "work"
    folder.mkdir()
    taken = {known: ports.take() for known in PORTS}
    path = os.pathsep.join((str(tools), os.environ["PATH"]))
    # What listens at its default address says so nowhere that could be replaced.
    moved_away = {
        "PATH": path,
        "MIXER_SERVER__ADMIN": f"127.0.0.1:{taken[15014]}",
        "MIXER_SERVER__LISTENERS": f"[{{address: '127.0.0.1:{taken[9091]}'}}]",
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MIXER_")} | moved_away

    def background(command: str) -> None:
        words = command.split()
        ready: Callable[[], bool] = {
            "mixer": lambda: is_ready(taken[15014]),
            "envoy": lambda: accepts(taken[10000]),
        }.get(words[0], lambda: accepts(taken[9080]))
        shell = ["/bin/bash", "-c", f"cd '{folder}' && exec {command}"]
        program = programs.start(f"{words[0]}-{len(words)}", shell, environment=moved_away)
        program.wait_until(ready)

    end = time.monotonic() + _ARRIVAL_SECONDS

    def settled() -> bool:
        time.sleep(0.5)
        return time.monotonic() < end

    return Workplace(folder, environment, taken, background, settled)


def put_in(bootstrap: Bootstrap, pieces: dict[str, Any]) -> Bootstrap:
    """The shipped Envoy configuration with a document's pieces in the place of its own."""
    whole = copy.deepcopy(bootstrap)
    router = manager(whole)["http_filters"][-1]
    resources = whole["static_resources"]
    for name, value in pieces.items():
        if name == "http_filters":
            manager(whole)[name] = [*value, router]
        elif name == "clusters":
            ours = {cluster["name"] for cluster in value}
            resources[name] = [*value, *(kept for kept in resources[name] if kept["name"] not in ours)]
        elif name == "access_log":
            manager(whole)[name] = value
        elif name == "routes":
            manager(whole)["route_config"]["virtual_hosts"][0][name] = value
        elif name == "bootstrap_extensions":
            whole[name] = value
        else:
            pytest.fail(f"`{name}` is no piece of an Envoy configuration that this test knows")
    return whole


def run_block(block: Block, workplace: Workplace, place: str) -> None:
    word, _, rest = block.directive.partition(" ")
    if word == "file":
        workplace.write(rest, block.text)
    elif word == "envoy":
        pieces = put_in(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")), yaml.safe_load(block.text))
        name = rest or "pieces.yaml"
        workplace.write(name, yaml.safe_dump(pieces))
        run_command(workplace, place, ["envoy", "--mode", "validate", "-c", name])
    elif word == "no,":
        assert rest, f"{place}: a block that is not run says why"
    elif block.language == "yaml":
        (workplace.folder / "alone.yaml").write_text(block.text, encoding="utf-8")
        run_command(workplace, place, ["mixer", "validate", "-c", "alone.yaml"])
    else:
        assert block.language == "console", f"{place}: say with `<!-- run: … -->` what this block is"
        for step in steps(block):
            workplace.run(step, place)


def run_command(workplace: Workplace, place: str, command: list[str]) -> None:
    tools = workplace.folder.parent / "bin"
    done = subprocess.run(
        [tools / command[0], *command[1:]], cwd=workplace.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{place}: {' '.join(command)}\n{done.stdout}{done.stderr}"


@pytest.mark.long(5)
@pytest.mark.envoy
@pytest.mark.chdb
@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_document_runs(document: Path, workplace: Workplace) -> None:
    for block in blocks(document):
        place = f"{name_of(document)}:{block.line}"
        assert block.language in LANGUAGES, f"{place}: say what language this is; known are {sorted(LANGUAGES)}"
        if block.language not in PICTURES:
            run_block(block, workplace, place)


def local_links(document: Path) -> Iterator[str]:
    for part in document.read_text(encoding="utf-8").split("](")[1:]:
        target = part.partition(")")[0]
        if target and "://" not in target:
            yield target


def anchors(document: Path) -> set[str]:
    """What GitHub calls the headings of a document."""
    prose = re.sub(r"^ *```.*?^ *```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(document: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = document.parent / name if name else document
    return target.exists() and (not anchor or anchor in anchors(target))


LINKED = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "deploy").glob("**/*.md")])


@pytest.mark.parametrize("document", LINKED, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    assert [link for link in local_links(document) if not leads_somewhere(document, link)] == []
