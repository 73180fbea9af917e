"""Several real Valkeys that belong together: a cluster of masters, and a master with a replica that Sentinels watch."""

from __future__ import annotations

from mixer_py.demo.processes import Ports
from tests.parts.mixer_process import eventually
from tests.parts.programs import Programs
from tests.parts.valkey import Valkey

_SLOTS = 16384


class Cluster:
    """Masters that share the slots evenly, each with so many replicas."""

    def __init__(self, programs: Programs, ports: Ports, masters: int = 3, replicas: int = 0) -> None:
        """Starts them, and returns once each knows all."""
        self.masters = [self._node(programs, ports) for _ in range(masters)]
        self.replicas = [self._node(programs, ports) for _ in range(masters * replicas)]
        first, nodes = self.masters[0], [*self.masters, *self.replicas]
        for number, master in enumerate(self.masters):
            begin, end = number * _SLOTS // masters, (number + 1) * _SLOTS // masters - 1
            assert master.ask("CLUSTER", "ADDSLOTSRANGE", str(begin), str(end)) == b"+OK\r\n"
        for number, node in enumerate(nodes, 1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number))
            first.ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(node.bus))
        for node in nodes:
            eventually(lambda node=node: self._knows(node, len(nodes)), "a cluster whose nodes know each other")
        for number, replica in enumerate(self.replicas):
            master = self.masters[number % masters]
            assert replica.ask("CLUSTER", "REPLICATE", self.id_of(master)) == b"+OK\r\n"
        for node in nodes:
            eventually(lambda node=node: b"cluster_state:ok" in node.ask("CLUSTER", "INFO"), "a cluster that is well")
        for replica in self.replicas:
            eventually(lambda one=replica: b"master_link_status:up" in one.ask("INFO", "replication"), "replicas")

    @property
    def uri(self) -> str:
        """The address of the cluster, by two of its nodes."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.masters[:2])}"

    @staticmethod
    def id_of(node: Valkey) -> str:
        """What the cluster calls a node."""
        return node.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()

    def move(self, slot: int, source: Valkey, target: Valkey) -> None:
        """Gives a slot of which the source has no key to another master; masters that are replicas now learn of it."""
        name = self.id_of(target)
        for node in (target, source, *self.masters):
            told = node.ask("CLUSTER", "SETSLOT", str(slot), "NODE", name) == b"+OK\r\n"
            assert told or node not in (target, source)

    def begin_to_move(self, slot: int, source: Valkey, target: Valkey) -> None:
        """From now on the source makes no new keys of a slot, and the target takes those that are sent to it."""
        assert target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id_of(source)) == b"+OK\r\n"
        assert source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id_of(target)) == b"+OK\r\n"

    @staticmethod
    def move_keys(slot: int, source: Valkey, target: Valkey) -> None:
        """Moves the keys that the source has of a slot, one by one."""
        for key in keys_of(slot, source):
            assert source.ask("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000").startswith(b"+")

    @staticmethod
    def _node(programs: Programs, ports: Ports) -> Valkey:
        bus = ports.take()
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(bus))
        node = Valkey(programs, ports, *options)
        node.bus = bus
        return node

    @staticmethod
    def _knows(node: Valkey, nodes: int) -> bool:
        return f"cluster_known_nodes:{nodes}\r\n".encode() in node.ask("CLUSTER", "INFO")


def keys_of(slot: int, node: Valkey) -> list[bytes]:
    """The keys of a slot that a node has, a thousand at most."""
    return node.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "1000").split(b"\r\n")[2::2]


class Watched:
    """A master, its replica, and Sentinels, of which two have to agree."""

    name = "counters"

    def __init__(self, programs: Programs, ports: Ports, sentinels: int = 3) -> None:
        """Starts them, and returns once every Sentinel knows all."""
        self.master = Valkey(programs, ports)
        self.replica = Valkey(programs, ports, "--replicaof", "127.0.0.1", str(self.master.port))
        eventually(lambda: b"master_link_status:up" in self.replica.ask("INFO", "replication"), "a replica")
        self.sentinels = [Valkey(programs, ports, sentinel=self._configuration()) for _ in range(sentinels)]
        for sentinel in self.sentinels:
            eventually(lambda one=sentinel: self._knows(one), "a Sentinel that knows the others and the replica")

    @property
    def uri(self) -> str:
        """The address of whichever is the master, by the Sentinels."""
        return self.uri_by(*(sentinel.port for sentinel in self.sentinels))

    @classmethod
    def uri_by(cls, *ports: int) -> str:
        """The same, by whatever stands before the Sentinels at these ports."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"redis+sentinel://{hosts}/{cls.name}/0"

    def _configuration(self) -> str:
        return (
            f"sentinel monitor {self.name} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {self.name} 1000\n"
            f"sentinel failover-timeout {self.name} 5000\n"
        )

    def _knows(self, sentinel: Valkey) -> bool:
        state = sentinel.ask("SENTINEL", "MASTER", self.name)
        others = b"$19\r\nnum-other-sentinels\r\n$1\r\n%d" % (len(self.sentinels) - 1)
        return others in state and b"$10\r\nnum-slaves\r\n$1\r\n1" in state
