"""Copying trees: what lasts arrives, numbers go on, changes meanwhile are caught, and nothing else is called equal."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from quorate.plugins.znodes.client import OPEN_ACL, Client, Lost, Refusal
from quorate.recipes.znodes_import import Ends, Unfinished, import_tree, read_tree

SERVE = Path(__file__).parents[1] / "plugins" / "znodes" / "znodes_serve.py"
SUPER = ((b"digest", b"super:test"),)
JAR = Path("/usr/share/java/zookeeper.jar")
CREATE = 1
EPHEMERAL, SEQUENTIAL = 1, 2
ANN_ONLY = b"\0\0\0\1\0\0\0\x1f\0\0\0\6digest\0\0\0\x20ann:" + b"7Jv9ryKQ8VQRAbtXSyDjIpW2C0o="


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Ends, Ends]]:
    """Two servers, each a world of its own: a source and a place for copies."""
    words = [sys.executable, str(SERVE), "1", "tick=500", "super=super:D/InIHSb7yEEbrWz8b9l71RjZJU="]
    servers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        hosts = [each.stdout.readline().strip() for each in servers if each.stdout]
        yield Ends([hosts[0]], SUPER), Ends([hosts[1]], SUPER)
    finally:
        for each in servers:
            each.kill()
            each.communicate()


def with_clients(ends: tuple[Ends, Ends], act: Callable[[Client, Client], Awaitable[Any]]) -> Any:
    """Do something with a client of each."""

    async def work() -> Any:
        clients = [await Client.connect(each.hosts, each.auth) for each in ends]
        try:
            return await act(*clients)
        finally:
            for each in clients:
                await each.close()

    return asyncio.run(work())


async def make(client: Client, path: bytes, value: bytes | None = b"", flags: int = 0, acl: bytes = OPEN_ACL) -> bytes:
    """Create a node of any kind; its path."""
    buffer = b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
    body = len(path).to_bytes(4, "big") + path + buffer + acl + flags.to_bytes(4, "big")
    return (await client.call(CREATE, body, path))[4:]


async def populate(client: Client, top: bytes) -> None:
    """A tree with something of everything."""
    await make(client, top, b"top")
    await make(client, top + b"/null", None)
    await make(client, top + b"/large", bytes(range(256)) * 2000)
    await make(client, top + b"/deep")
    await make(client, top + b"/deep/er", b"\xff\0")
    await make(client, top + b"/deep/er/\xc3\xbc", "\u20ac".encode())
    await make(client, top + b"/closed", b"secret", acl=ANN_ONLY)
    await make(client, top + b"/closed/child", b"too", acl=ANN_ONLY)
    await make(client, top + b"/closed/open", b"")
    await make(client, top + b"/queue")
    made = await asyncio.gather(*(make(client, top + b"/queue/n-", b"%d" % each, SEQUENTIAL) for each in range(1203)))
    await asyncio.gather(*map(client.delete, made[:1200]))
    await make(client, top + b"/queue/of-1700000000")  # no number of the counter's
    await asyncio.gather(*(make(client, top + b"/deep/%d" % each) for each in range(1000)))


async def equal(source: Client, copy: Client, top: bytes) -> bool:
    """Whether the trees are, by a second way of looking: value, list and children, one node after the other."""
    one, other = await read_tree(source, top, ""), await read_tree(copy, top, "")
    return {path: node[:2] for path, node in one[0].items()} == {path: node[:2] for path, node in other[0].items()}


def test_everything_that_lasts_arrives(ends: tuple[Ends, Ends]) -> None:
    """Values, lists, depth, breadth; ephemeral nodes stay behind; sequential numbers go on; a second import finds
    nothing to do."""
    said: list[str] = []

    async def work(source: Client, copy: Client) -> None:
        await make(source, b"/above")
        await populate(source, b"/above/app")
        await make(source, b"/above/app/e", b"", EPHEMERAL)
        outcome = await import_tree(*ends, b"/above/app", progress=lambda what, _done, _total: said.append(what))
        assert (outcome.ephemeral, outcome.more, outcome.rounds) == (1, 0, 2)
        assert outcome.nodes == 1 + 5 + 2 + 2 + 4 + 1000
        assert await equal(source, copy, b"/above/app")
        assert (await copy.value(b"/above/app/null"))[0] is None
        assert await copy.acl(b"/above/app/closed/child") == ANN_ONLY
        assert await make(copy, b"/above/app/queue/n-", b"", SEQUENTIAL) == b"/above/app/queue/n-0000001203"
        await copy.delete(b"/above/app/queue/n-0000001203")
        before = (await copy.value(b"/above/app"))[1]
        assert (await import_tree(*ends, b"/above/app")).rounds == 1
        assert (await copy.value(b"/above/app"))[1] == before

    with_clients(ends, work)
    assert list(dict.fromkeys(said)) == [
        "reading the source", "reading the copy", "writing the copy", "counting up", "closing lists",
    ]  # fmt: skip


def test_a_later_import_takes_what_changed(ends: tuple[Ends, Ends]) -> None:
    """Values and lists that changed since, new nodes; deleted ones stay in the copy unless it is told otherwise."""

    async def work(source: Client, copy: Client) -> None:
        for path in (b"/later", b"/later/a", b"/later/b", b"/later/b/c"):
            await make(source, path, b"1")
        await import_tree(*ends, b"/later")
        await source.put(b"/later/a", b"2")
        await source.set_acl(b"/later", ANN_ONLY)
        await make(source, b"/later/d", b"new", acl=ANN_ONLY)
        await source.delete(b"/later/b/c")
        await source.delete(b"/later/b")
        assert (await import_tree(*ends, b"/later")).more == 2
        assert (await import_tree(*ends, b"/later", delete=True)).more == 0
        assert await equal(source, copy, b"/later")

    with_clients(ends, work)


def test_what_changes_meanwhile_is_caught(ends: tuple[Ends, Ends]) -> None:
    """Nodes that come, go and change while it is written are put right in a further round; a source that never rests
    is not said to be copied."""

    async def work(source: Client, copy: Client) -> None:
        pending: list[asyncio.Future[Any]] = []
        for path in (b"/busy", b"/busy/a", b"/busy/b"):
            await make(source, path)

        def disturb(what: str, _done: int, _total: int) -> None:
            if what == "writing the copy" and not pending:
                pending.append(asyncio.ensure_future(source.put(b"/busy/a", b"changed")))
                pending.append(asyncio.ensure_future(source.delete(b"/busy/b")))
                pending.append(asyncio.ensure_future(make(source, b"/busy/c")))

        outcome = await import_tree(*ends, b"/busy", progress=disturb)
        assert (outcome.rounds, outcome.more, len(pending)) == (3, 0, 3)
        assert await equal(source, copy, b"/busy")

        def disturb_again(what: str, done: int, _total: int) -> None:
            if what == "reading the copy":
                pending.append(asyncio.ensure_future(source.put(b"/busy/a", b"%d" % len(pending))))

        await source.put(b"/busy/a", b"at last")
        with pytest.raises(Unfinished, match="changed in each of 3 rounds"):
            await import_tree(*ends, b"/busy", rounds=3, progress=disturb_again)
        await asyncio.gather(*pending)

    with_clients(ends, work)


def test_what_may_not_be_read_is_not_guessed(ends: tuple[Ends, Ends]) -> None:
    """A node one may not read, and a list whose hashes are hidden, are said by name. Nothing is copied half."""
    read_only = b"\0\0\0\2" + ANN_ONLY[4:] + b"\0\0\0\1\0\0\0\5world\0\0\0\6anyone"

    async def work(source: Client, copy: Client) -> None:
        await make(source, b"/closed", acl=ANN_ONLY)
        await make(source, b"/hidden", acl=read_only)
        stranger = ends[0]._replace(auth=())
        with pytest.raises(Unfinished, match="/closed: no auth"):
            await import_tree(stranger, ends[1], b"/closed")
        with pytest.raises(Unfinished, match="/hidden: the hashes"):
            await import_tree(stranger, ends[1], b"/hidden")
        with pytest.raises(Unfinished, match="no lasting node /nowhere"):
            await import_tree(*ends, b"/nowhere")
        for path in (b"/closed", b"/hidden"):
            with pytest.raises(Refusal, match="no node"):
                await copy.value(path)

    with_clients(ends, work)


def test_servers_that_are_not_there(ends: tuple[Ends, Ends]) -> None:
    """One that answers is enough; none is said; one that ends the connection is noticed; a wrong proof is refused."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(Lost, match=dead):
            asyncio.run(import_tree(ends[0]._replace(hosts=[dead]), ends[1], rounds=2))
        some = ends[0]._replace(hosts=[dead, *ends[0].hosts])
        with_clients(ends, lambda source, _: make(source, b"/some"))
        assert asyncio.run(import_tree(some, ends[1], b"/some")).nodes == 1

    async def lost() -> None:
        client = await Client.connect(ends[0].hosts)
        with pytest.raises(Refusal, match="unimplemented"):
            await client.call(99, b"", b"")  # which no server takes
        with pytest.raises(Lost):
            await client.value(b"/")
        await client.close()
        with pytest.raises(Refusal, match="auth failed"):
            await Client.connect(ends[0].hosts, [(b"nosuch", b"x")])

    asyncio.run(lost())


@pytest.mark.cell
def test_the_command(ends: tuple[Ends, Ends], shared_cell: Any, quorate: Any) -> None:
    """Into a real cell: the bar goes to standard error, the outcome to standard output; mistakes are named."""
    with_clients(ends, lambda source, _: populate(source, b"/command"))
    source, copy = ends[0].hosts[0], ",".join(shared_cell.zookeepers)
    words = ("znodes", "import", source, copy, "--path", "/command", "--from-auth", "digest:super:test")
    done = quorate(*words)
    assert done.returncode == 1
    assert "/command/closed: no auth" in done.stderr  # the cell's own reader may not see what it closed
    for words_, status, says in (
        ((*words, "--rounds", "1"), 2, "at least 2"),
        (("znodes", "import", "nowhere", copy), 2, "'nowhere' is no server"),
        (("znodes", "import", source, copy, "--path", "x/"), 2, "begins with a slash"),
        (("znodes", "import", source, copy, "--path", "/nowhere"), 1, "no lasting node"),
        (("znodes", "import", source, "127.0.0.1:1"), 1, "127.0.0.1:1: "),
        (("znodes", "import", source, copy, "--to-auth", "secret"), 1, "is no authentication"),
    ):
        done = quorate(*words_)
        assert (done.returncode, says in done.stderr) == (status, True), done.stderr
        assert "Traceback" not in done.stderr
    done = quorate("znodes", "import", source, copy, "--path", "/command/queue")
    assert (done.returncode, done.stdout) == (0, "5 nodes are the same in the source and in the cell\n"), done.stderr
    assert "reading the source   [##############################] 5/5" in done.stderr


@pytest.mark.skipif(not JAR.exists() or shutil.which("java") is None, reason="needs the Debian package zookeeper")
def test_from_the_original(ends: tuple[Ends, Ends], tmp_path: Path) -> None:
    """A tree in a real ZooKeeper becomes the same tree here, and the numbers go on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "zoo.cfg").write_text(
        f"tickTime=500\ndataDir={tmp_path}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
    )
    jars = f"{JAR}:{JAR.with_name('slf4j-simple.jar')}"
    digest = "-Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="
    words = ["java", "-Xmx160m", "-XX:+UseSerialGC", digest, "-cp", jars]
    words += ["org.apache.zookeeper.server.ZooKeeperServerMain", str(tmp_path / "zoo.cfg")]
    original = Ends([f"127.0.0.1:{port}"], SUPER)
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as server:
        try:
            asyncio.run(_answers(original))
            pair = (original, ends[1])

            async def work(source: Client, copy: Client) -> None:
                await populate(source, b"/original")
                outcome = await import_tree(*pair, b"/original")
                assert (outcome.nodes, outcome.rounds) == (1014, 2)
                assert await equal(source, copy, b"/original")
                made = await make(copy, b"/original/queue/n-", b"", SEQUENTIAL)
                assert made == b"/original/queue/n-0000001203"

            with_clients(pair, work)
        finally:
            server.kill()


async def _answers(end: Ends) -> None:
    """Wait until a server is up."""
    for _ in range(300):
        try:
            await (await Client.connect(end.hosts)).close()
        except Lost:
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("it does not answer")
