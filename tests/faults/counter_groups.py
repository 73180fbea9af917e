"""Several counter stores that belong together: their Sentinels are lost, masters are, and slots are moved."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.faults.counters import ALLOWED, NO_LENGTH, until_seen
from tests.faults.fault import Fault, State, While, at_once, lasting
from tests.faults.scene import LEASE, Scene
from tests.faults.servers import away, standing, talks
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Watched

SENTINEL, CLUSTER = "a Valkey that Sentinels watch", "a cluster of Valkeys"
SENTINEL_LEASES, CLUSTER_LEASES = f"{SENTINEL}, leases", f"{CLUSTER}, leases"
_FOLLOWED = "with on_error: allow no call fails; the one that was promoted counts"
_HELD = (
    "with on_error: allow no call fails; hits that are held answer, more are taken of the one that was promoted; "
    "what the lost one had not sent to its replica is forgotten"
)
_SENTINELS = range(3)


def _masters(scene: Scene) -> list[Valkey]:
    """Those that say that they are masters."""
    found = []
    for one in scene.parts["valkeys"]:
        with suppress(OSError):
            if one.ask("ROLE").startswith(b"*3\r\n$6\r\nmaster"):
                found.append(one)
    return found


def _charges(master: Valkey) -> int:
    """How many charges it has made."""
    return sum(int(count) for count in re.findall(rb"cmdstat_evalsha:calls=(\d+)", master.ask("INFO", "commandstats")))


@contextmanager
def failing_over(scene: Scene) -> Iterator[None]:
    """The master that counts is killed, and its replica is to be made one in its place; it comes back as a replica."""
    before = _masters(scene)
    lost = _holder(scene)
    lost.kill()
    try:
        yield
        scene.eventually(lambda: len(_masters(scene)) >= len(before), "a replica that was made a master")
    finally:
        lost.start()
        scene.eventually(lambda: b"master_link_status:up" in lost.ask("INFO", "replication"), "a replica again", 120)


def _count_again(scene: Scene) -> None:
    scene.eventually(lambda: _counts(scene), "that hits are counted again")


def _counts(scene: Scene) -> bool:
    """Whether hits were charged in the last second, and none failed to be."""
    errors, charged = scene.metric("mixer_store_errors_total"), sum(map(_charges, _masters(scene)))
    time.sleep(1.0)
    return sum(map(_charges, _masters(scene))) > charged and scene.metric("mixer_store_errors_total") == errors


@contextmanager
def _ordered_over(scene: Scene) -> Iterator[None]:
    """As an operator has it done before the machine of a master is taken away: nothing is killed."""
    before, sentinel = _masters(scene), scene.parts["sentinel 0"]

    def ordered() -> bool:
        return bool(sentinel.ask("SENTINEL", "FAILOVER", Watched.name).startswith(b"+OK"))

    # Just after another fail-over it finds no replica good enough, and refuses.
    scene.eventually(ordered, "an order that is taken")
    yield

    def another() -> bool:
        now = _masters(scene)
        if now == before:  # on a busy machine it may give up what it has begun; until then it refuses
            ordered()
        return len(now) == 1 and now != before

    scene.eventually(another, "another master")


def _counters(master: Valkey) -> list[bytes]:
    """The keys of the counters that it has."""
    return master.ask("KEYS", "mixer:*").split(b"\r\n")[2::2]


def _holder(scene: Scene) -> Valkey:
    """The master that has the counter."""
    scene.eventually(lambda: any(map(_counters, _masters(scene))), "a counter")
    return next(master for master in _masters(scene) if _counters(master))


def _take_anew(scene: Scene) -> None:
    """Fails over, until hits are taken ahead again."""
    granted = scene.metric("mixer_leases_total", outcome="granted")
    with failing_over(scene):
        time.sleep(1.0)
    granted = max(granted, scene.metric("mixer_leases_total", outcome="granted"))
    scene.eventually(lambda: scene.metric("mixer_leases_total", outcome="granted") > granted, "another lease")


@contextmanager
def _slot_on_its_way(scene: Scene) -> Iterator[None]:
    """The counter's slot is moved key by key: for a second the counter is where it was, then at the other node."""
    cluster, source = scene.parts["cluster"], _holder(scene)
    target = next(master for master in _masters(scene) if master is not source)
    slot = int(source.ask("CLUSTER", "KEYSLOT", _counters(source)[0])[1:])
    cluster.begin_to_move(slot, source, target)
    time.sleep(1.0)
    cluster.move_keys(slot, source, target)
    try:
        yield
    finally:
        cluster.move(slot, source, target)


def _counted(scene: Scene) -> tuple[int, int]:
    """Requests so far, and hits that the counters have, while nothing is under way."""
    scene.traffic.hold()
    try:
        states = [master.ask("GET", key) for master in _masters(scene) for key in _counters(master)]
        used = sum(struct.unpack_from("<ddd", state, len("$24\r\n"))[1] for state in states)
        return len(scene.traffic.since(0.0)), int(used)
    finally:
        scene.traffic.go_on()


def _exactly(state: State, held: int = 0) -> While:
    """Each request is counted once meanwhile; so many more or fewer where hits may be held."""

    def inject(scene: Scene) -> None:
        requests, hits = _counted(scene)
        with state(scene):
            time.sleep(2.0)
        time.sleep(1.0)
        requests, hits = (after - before for after, before in zip(_counted(scene), (requests, hits), strict=True))
        if abs(requests - hits) > held or not requests:
            scene.complaints.append(f"{requests} requests were counted as {hits}")

    return While(state, inject)


@contextmanager
def _cut_off(scene: Scene) -> Iterator[None]:
    """The connections of all clients to the master end."""
    for master in _masters(scene):
        master.ask("CLIENT", "KILL", "TYPE", "normal")
    yield


@contextmanager
def _naming_the_replica(scene: Scene, proxy: str) -> Iterator[None]:
    """A Sentinel that has not heard of the last fail-over."""
    replica = next(one for one in scene.parts["valkeys"] if one not in _masters(scene))
    port = str(replica.port)
    with talks(f"*2\r\n$9\r\n127.0.0.1\r\n${len(port)}\r\n{port}\r\n".encode(), proxy)(scene):
        yield


def _sentinel_states(number: int) -> dict[str, State]:
    """What may be wrong with one."""
    sentinel, proxy = f"sentinel {number}", f"proxy {number}"
    return {
        "away": away(sentinel),
        "hung": standing(sentinel),
        "answering a length that is none": talks(NO_LENGTH, proxy),
        "naming the replica": lambda scene: _naming_the_replica(scene, proxy),
    }


def _two_of_three(what: str) -> While:
    """Each pair of Sentinels in turn, so that one of them is the one that is asked first."""
    pairs = [at_once(*(_sentinel_states(n)[what] for n in _SENTINELS if n != well), _cut_off) for well in _SENTINELS]

    def inject(scene: Scene) -> None:
        for pair in pairs:
            with pair(scene):
                scene.eventually(lambda: _counts(scene), "that hits are counted with two Sentinels lost", 60)

    return While(pairs[0], inject)


def _sentinel_faults() -> Iterator[Fault]:
    for what in _sentinel_states(0):
        every = at_once(*(_sentinel_states(number)[what] for number in _SENTINELS), _cut_off)
        name = f"every Sentinel {what}, and connections to the master cut"
        yield Fault(name, SENTINEL, ALLOWED, until_seen(every))
        name = f"two of three Sentinels {what}, and connections to the master cut"
        promise = "with on_error: allow no call fails; the third names the master, which counts"
        yield Fault(name, SENTINEL, promise, _two_of_three(what))


FAULTS = (
    Fault(
        "a master killed, and a replica promoted by Sentinels",
        SENTINEL,
        _FOLLOWED,
        lasting(failing_over, 1.0, _count_again),
    ),
    Fault("a replica promoted by an operator's order", SENTINEL, _FOLLOWED, lasting(_ordered_over, 0.0, _count_again)),
    Fault(
        "a master of a cluster killed, and its replica promoted",
        CLUSTER,
        _FOLLOWED,
        lasting(failing_over, 1.0, _count_again),
    ),
    *_sentinel_faults(),
    Fault(
        "a slot of a cluster moved key by key",
        CLUSTER,
        "no call fails; each hit is counted once, at whichever of the two nodes has its counter",
        _exactly(_slot_on_its_way),
    ),
    Fault(
        "a slot of a cluster moved key by key, leases",
        CLUSTER_LEASES,
        "the same, but for what the worker holds",
        _exactly(_slot_on_its_way, LEASE),
    ),
    Fault(
        "a master killed, and a replica promoted by Sentinels, leases",
        SENTINEL_LEASES,
        _HELD,
        While(failing_over, _take_anew),
    ),
    Fault(
        "a master of a cluster killed, and its replica promoted, leases",
        CLUSTER_LEASES,
        _HELD,
        While(failing_over, _take_anew),
    ),
)
