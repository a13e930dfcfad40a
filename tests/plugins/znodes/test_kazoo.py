"""kazoo, the stock Python client, and its recipes over our port.

Runs over a fake cell of three replicas of its own, or over the servers named in QUORATE_ZNODES_HOSTS (host:port,...).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

kazoo_client = pytest.importorskip("kazoo.client")
from kazoo.client import KazooClient, KazooState  # noqa: E402
from kazoo.exceptions import (  # noqa: E402
    BadVersionError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.connection import _CONNECTION_DROP, ConnectionDropped, ConnectionHandler  # noqa: E402
from kazoo.protocol.serialization import Create  # noqa: E402
from kazoo.protocol.states import EventType, KeeperState  # noqa: E402
from kazoo.recipe.cache import TreeCache, TreeEvent  # noqa: E402
from kazoo.security import make_digest_acl  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def hosts() -> Iterator[str]:
    """Servers to talk to."""
    if found := os.environ.get("QUORATE_ZNODES_HOSTS"):
        yield found
        return
    script = Path(__file__).with_name("znodes_serve.py")
    options = ("3", "tick=500", "words=*", "extended-types=true")
    with subprocess.Popen([sys.executable, script, *options], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
            assert server.poll() is None, "the server died"
        finally:
            server.kill()


@pytest.fixture
def connect(hosts: str) -> Iterator[Callable[..., KazooClient]]:
    """Makes started clients below one fresh node; stops them at the end."""
    clients = []
    root = f"/t{uuid.uuid4().hex}"

    def connect(at: str = hosts, **options: object) -> KazooClient:
        client = KazooClient(hosts=f"{at}{root}", timeout=4.0, **options)
        clients.append(client)
        client.start(timeout=10)
        return client

    maker = KazooClient(hosts=hosts, timeout=4.0)
    maker.start(timeout=10)
    maker.create(root)
    yield connect
    for client in clients:
        client.stop()
        client.close()
    maker.delete(root, recursive=True)
    maker.stop()
    maker.close()


Connect = Callable[..., KazooClient]


def eventually(what: Callable[[], object], seconds: float = 10.0) -> object:
    """Wait until `what()` is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found


def in_threads(count: int, body: Callable[[int], None]) -> None:
    """Run `body(0..count-1)` at the same time and wait for all; the first failure is raised."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            body(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def test_nodes(connect: Connect) -> None:
    """Create, read, change, list and delete with the errors a client expects."""
    zk = connect()
    path, stat = zk.create("/a", b"1", include_data=True)
    assert (path, stat.version, stat.data_length) == ("/a", 0, 1)
    with pytest.raises(NodeExistsError):
        zk.create("/a")
    assert zk.create("/a/s-", sequence=True) == "/a/s-0000000000"
    assert zk.create("/a/s-", sequence=True, ephemeral=True) == "/a/s-0000000001"
    assert sorted(zk.get_children("/a")) == ["s-0000000000", "s-0000000001"]
    names, stat = zk.get_children("/a", include_data=True)
    assert stat.children_count == len(names) == 2
    assert stat.cversion == 2
    with pytest.raises(NotEmptyError):
        zk.delete("/a")
    with pytest.raises(BadVersionError):
        zk.set("/a", b"2", version=7)
    assert zk.set("/a", b"2", version=0).version == 1
    value, stat = zk.get("/a")
    assert value == b"2"
    assert stat.last_modified_transaction_id > stat.creation_transaction_id
    with pytest.raises(NoNodeError):
        zk.get("/none")
    assert zk.exists("/none") is None
    zk.delete("/a", recursive=True)
    assert zk.sync("/") == "/"
    assert not zk.get_children("/")


def test_transactions(connect: Connect) -> None:
    """A transaction is all or nothing, and says which step failed."""
    zk = connect()
    good = zk.transaction()
    good.create("/t", b"1")
    good.check("/t", 0)
    good.set_data("/t", b"2")
    good.create("/t/u")
    assert [type(each).__name__ for each in good.commit()] == ["str", "bool", "ZnodeStat", "str"]
    bad = zk.transaction()
    bad.create("/v")
    bad.delete("/none")
    bad.create("/w")
    assert [type(each) for each in bad.commit()] == [RolledBackError, NoNodeError, RuntimeInconsistency]
    assert zk.exists("/v") is None


def test_watches(connect: Connect) -> None:
    """Data, child and existence watches fire once, by whichever client and replica the change came."""
    zk, other = connect(), connect()
    events: list[tuple[str, str]] = []
    note = lambda event: events.append((event.type, event.path))  # noqa: E731
    zk.exists("/w", watch=note)
    other.create("/w", b"")
    eventually(lambda: events == [(EventType.CREATED, "/w")])
    zk.sync("/w")
    zk.get("/w", watch=note)
    zk.get_children("/w", watch=note)
    other.set("/w", b"1")
    other.set("/w", b"2")
    other.create("/w/c")
    eventually(lambda: len(events) == 3)
    assert events[1:] == [(EventType.CHANGED, "/w"), (EventType.CHILD, "/w")]


def test_ephemerals_end_with_their_session(connect: Connect) -> None:
    """A stopped client's ephemerals are gone at once for others."""
    zk, other = connect(), connect()
    other.create("/e", ephemeral=True)
    zk.sync("/")
    assert zk.exists("/e").owner_session_id == other.client_id[0]
    gone = threading.Event()
    zk.exists("/e", watch=lambda event: gone.set())
    other.stop()
    assert gone.wait(5)
    assert zk.exists("/e") is None


def test_a_session_moves_between_replicas(connect: Connect) -> None:
    """A client that loses its connection goes on at whichever server, keeps its session and its ephemerals, and never
    sees an older state."""
    zk = connect()
    zk.create("/e", b"", ephemeral=True)
    session = zk.client_id
    for number in range(8):
        assert zk.set("/e", b"%d" % number).version == number + 1
        lost = threading.Event()

        def listen(state: KazooState, lost: threading.Event = lost) -> None:
            if state == KazooState.SUSPENDED:
                lost.set()

        zk.add_listener(listen)
        zk._call(_CONNECTION_DROP, zk.handler.async_result())
        assert lost.wait(5)
        zk.remove_listener(listen)
        value, stat = zk.retry(zk.get, "/e")
        assert value == b"%d" % number
        assert stat.ephemeralOwner == session[0]
        assert zk.client_id == session


def test_ended_session_is_told(connect: Connect) -> None:
    """A client that comes with a session that has ended learns it, and starts a new one."""
    zk = connect()
    ended = zk.client_id
    zk.stop()
    again = connect(client_id=ended)
    eventually(lambda: again.connected)
    assert again.client_id[0] != ended[0]
    assert again.client_state == KeeperState.CONNECTED


def test_rights(connect: Connect) -> None:
    """Digest lists keep strangers out; add_auth lets one in."""
    zk, stranger = connect(), connect()
    zk.create("/s", b"secret", acl=[make_digest_acl("ann", "pw", all=True)])
    stranger.sync("/s")
    with pytest.raises(NoAuthError):
        stranger.get("/s")
    stranger.add_auth("digest", "ann:pw")
    assert stranger.get("/s")[0] == b"secret"
    assert stranger.get_acls("/s")[0][0].id.id.startswith("ann:")
    stranger.delete("/s")


def test_pipelined_requests_keep_their_order(connect: Connect) -> None:
    """Reads and writes sent without waiting see exactly what was sent before them."""
    zk = connect()
    zk.create("/p", b"")
    pending = []
    for number in range(300):
        pending.append((zk.set_async("/p", b"%d" % number), zk.get_async("/p"), zk.exists_async("/p")))
    for number, (write, read, look) in enumerate(pending):
        assert write.get(10).version == number + 1
        assert read.get(10)[0] == b"%d" % number
        assert look.get(10).version == number + 1


def test_lock(connect: Connect) -> None:
    """Lock excludes, over several replicas."""
    inside = []

    def body(number: int) -> None:
        zk = connect()
        for _ in range(5):
            with zk.Lock("/lock", f"c{number}"):
                inside.append(number)
                assert len(inside) == 1
                inside.pop()

    in_threads(4, body)


def test_a_lost_reply_of_the_create(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never hears that its node was made finds it by its name behind the reconnect: the lock is taken
    once, and nothing is left of it (ZK-14.2)."""
    zk, other = connect(), connect()
    lost = []
    read = ConnectionHandler._read_response

    def lose(self: ConnectionHandler, header: object, buffer: object, offset: object) -> object:
        request = self.client._pending[0][0]
        if not lost and request.type == Create.type and b"lock" in request.data:
            lost.append(request)
            raise ConnectionDropped("the reply is lost")
        return read(self, header, buffer, offset)

    zk.ensure_path("/lock")
    monkeypatch.setattr(ConnectionHandler, "_read_response", lose)
    lock = zk.Lock("/lock", "the lock of one")
    assert lock.acquire(timeout=10)
    assert lost
    assert other.get_children("/lock") == [lock.node]
    lock.release()
    assert other.Lock("/lock", "another's").acquire(timeout=10)


def test_read_write_locks(connect: Connect) -> None:
    """Readers share, a writer waits for them and keeps them out."""
    zk, other, third = connect(), connect(), connect()
    one, two, writer = zk.ReadLock("/rw", "a"), other.ReadLock("/rw", "b"), third.WriteLock("/rw", "w")
    assert one.acquire(timeout=5)
    assert two.acquire(timeout=5)
    assert not writer.acquire(blocking=False)
    one.release()
    two.release()
    assert writer.acquire(timeout=5)
    assert not one.acquire(blocking=False)
    writer.release()


def test_semaphore(connect: Connect) -> None:
    """At most as many leases as agreed."""
    held = []

    def body(number: int) -> None:
        semaphore = connect().Semaphore("/sem", max_leases=2)
        with semaphore:
            held.append(number)
            assert len(held) <= 2
            time.sleep(0.02)
            held.remove(number)

    in_threads(5, body)


def test_election(connect: Connect) -> None:
    """Everybody leads in turn, one at a time."""
    leading: list[int] = []
    led = []

    def body(number: int) -> None:
        def lead() -> None:
            leading.append(number)
            assert leading == [number]
            led.append(number)
            leading.clear()

        connect().Election("/el", f"c{number}").run(lead)

    in_threads(3, body)
    assert sorted(led) == [0, 1, 2]


def test_queues(connect: Connect) -> None:
    """Queue in order of priority and arrival; LockingQueue keeps what was not consumed."""
    zk, other = connect(), connect()
    queue = zk.Queue("/q")
    for value, priority in ((b"b", 100), (b"c", 100), (b"a", 50)):
        queue.put(value, priority)
    other.sync("/q")
    assert [other.Queue("/q").get() for _ in range(3)] == [b"a", b"b", b"c"]
    locking = zk.LockingQueue("/lq")
    locking.put_all([b"x", b"y"])
    other.sync("/lq")
    taker = other.LockingQueue("/lq")
    assert taker.get(5) == b"x"
    assert locking.get(5) == b"y"
    assert taker.consume()
    assert locking.release()
    zk.sync("/lq")
    assert taker.get(5) == b"y"
    assert taker.consume()


def test_barriers(connect: Connect) -> None:
    """A barrier holds until it is removed; a double barrier lets all in and all out together."""
    zk, other = connect(), connect()
    barrier = zk.Barrier("/bar")
    barrier.create()
    other.sync("/bar")
    waiter = other.Barrier("/bar")
    assert not waiter.wait(0.05)
    barrier.remove()
    assert waiter.wait(5)
    entered = []

    def body(number: int) -> None:
        double = connect().DoubleBarrier("/dbar", 3)
        double.enter()
        entered.append(number)
        eventually(lambda: len(entered) == 3)
        double.leave()

    in_threads(3, body)


def test_counter(connect: Connect) -> None:
    """No increment is lost."""

    def body(number: int) -> None:
        counter = connect().Counter("/n")
        for _ in range(10):
            counter += 1

    in_threads(3, body)
    assert connect().Counter("/n").value == 30


def test_parties(connect: Connect) -> None:
    """Members are listed while they live."""
    zk, other = connect(), connect()
    mine, theirs = zk.Party("/party", "ann"), other.Party("/party", "bob")
    mine.join()
    theirs.join()
    zk.sync("/party")
    assert sorted(mine) == ["ann", "bob"]
    other.stop()
    eventually(lambda: len(mine) == 1)


def test_partitioner(connect: Connect) -> None:
    """Two clients share a set without overlap."""
    shares: dict[int, set[int]] = {}

    def body(number: int) -> None:
        partitioner = connect().SetPartitioner("/part", set=range(6), identifier=f"c{number}", time_boundary=0.2)

        def settled() -> bool:
            if partitioner.release:
                partitioner.release_set()
            elif partitioner.acquired:
                shares[number] = set(partitioner)
                return len(shares) == 2 and sum(map(len, shares.values())) == 6
            elif partitioner.allocating:
                partitioner.wait_for_acquire(0.1)
            return False

        eventually(settled, 20)

    in_threads(2, body)
    assert shares[0] | shares[1] == set(range(6))
    assert not shares[0] & shares[1]


def test_cache_and_watchers(connect: Connect) -> None:
    """TreeCache, DataWatch and ChildrenWatch follow another client's changes."""
    zk, other = connect(), connect()
    other.create("/tree/x", b"1", makepath=True)
    zk.sync("/tree")
    cache = TreeCache(zk, "/tree")
    ready = threading.Event()
    cache.listen(lambda event: ready.set() if event.event_type == TreeEvent.INITIALIZED else None)
    cache.start()
    assert ready.wait(10)
    values: list[bytes | None] = []
    lists: list[list[str]] = []
    zk.DataWatch("/tree/x", lambda value, stat: values.append(value))
    zk.ChildrenWatch("/tree", lambda names: lists.append(sorted(names)))
    other.set("/tree/x", b"2")
    other.create("/tree/y", b"")
    eventually(lambda: values[-1:] == [b"2"] and lists[-1:] == [["x", "y"]])
    eventually(lambda: (found := cache.get_data("/tree/x")) and found.data == b"2")
    eventually(lambda: sorted(cache.get_children("/tree")) == ["x", "y"])
    other.delete("/tree/x")
    eventually(lambda: values[-1:] == [None] and cache.get_data("/tree/x") is None)
    cache.close()


def test_words(connect: Connect) -> None:
    """kazoo's use of four-letter words."""
    zk = connect()
    assert zk.command(b"ruok") == "imok"
    assert "Mode: " in zk.command(b"srvr")
    assert zk.server_version()[:2] == (3, 8)
