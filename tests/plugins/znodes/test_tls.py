"""The second port: who gets in over TLS, as whom, and that everything goes through."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("OpenSSL", reason="the extra tls")
sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.plugins.znodes import chunks, jute, proofs, sasl, tls
from quorate.plugins.znodes.protocol import Op
from quorate.plugins.znodes.settings import Secure
from znodes_certificates import make_certificates
from znodes_dial import Client
from znodes_talk import Room
from znodes_wire import create, frame, path_watch

CLIENT = b"CN=client,O=Example\\, Inc."


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what server and client need."""
    directory = tmp_path_factory.mktemp("tls")
    make_certificates(directory)
    return directory


@pytest.fixture(scope="module")
def ports(pems: Path) -> Iterator[tuple[int, int]]:
    """One replica: its ordinary and its secure port."""
    script = Path(__file__).with_name("znodes_serve.py")
    files = [f"{name}={pems / file}" for name, file in (("certificate", "server.crt"), ("key", "server.key"))]
    options = ("1", "tick=500", "words=*", "secure=tcp:0", f"authority={pems / 'ca.pem'}", *files)
    with subprocess.Popen([sys.executable, script, *options], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            plain, secure = (int(word.rpartition(":")[2]) for word in server.stdout.readline().split())
            yield plain, secure
            assert server.poll() is None, "the server died"
        finally:
            server.kill()


def terms(pems: Path, *, shown: bool = True) -> ssl.SSLContext:
    """What a client goes by."""
    context = ssl.create_default_context(cafile=str(pems / "ca.pem"))
    if shown:
        context.load_cert_chain(pems / "client.crt", pems / "client.key")
    return context


Dial = Callable[..., Client]


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Makes clients, and ends them with the test."""
    made = []

    def dial(port: int, context: ssl.SSLContext | None) -> Client:
        made.append(Client(port, context))
        return made[-1]

    yield dial
    for each in made:
        each.close()


def test_a_certificate_says_who_it_is(dial: Dial, ports: tuple[int, int], pems: Path) -> None:
    """The subject is an identity: it is shown, stands for "auth" in a list, and keeps others out."""
    client, stranger = dial(ports[1], terms(pems)), dial(ports[0], None)
    client.connect()
    stranger.connect()
    who = jute.Ids.parse(client.call(Op.WHO_AM_I).body)
    assert [(each.scheme, each.id) for each in who] == [(b"ip", b"127.0.0.1"), (b"x509", CLIENT)]
    assert client.call(Op.AUTH, jute.Auth.build({"type": 0, "scheme": b"x509", "auth": b""}), xid=-4).err == 0
    mine = [{"perms": 31, "scheme": b"auth", "id": b""}]
    assert client.call(Op.CREATE, create(b"/mine", b"secret", 0, mine)).err == 0
    assert client.call(Op.GET_DATA, path_watch(b"/mine")).err == 0
    assert stranger.call(Op.GET_DATA, path_watch(b"/mine")).err == -102
    (entry,) = jute.GetAclReply.parse(client.call(Op.GET_ACL, wire.path_only(b"/mine")).body).acl
    assert (entry.scheme, entry.id) == (b"x509", CLIENT)


def test_large_replies_to_a_slow_client(dial: Dial, ports: tuple[int, int], pems: Path) -> None:
    """More than all buffers hold arrives whole once it is read, and the server goes on reading afterwards."""
    client = dial(ports[1], terms(pems))
    client.connect()
    value = bytes(range(256)) * 3000
    assert client.call(Op.CREATE, create(b"/large", value)).err == 0
    client.link.sendall(b"".join(frame(each, Op.GET_DATA, path_watch(b"/large")) for each in range(40)))
    client.link.sendall(frame(-2, Op.PING))
    for each in range(40):
        answer = client.frame()
        assert int.from_bytes(answer[:4], "big") == each
        assert answer[20 : 20 + len(value)] == value
    assert int.from_bytes(client.frame()[:4], "big", signed=True) == -2
    assert client.call(Op.DELETE, wire.path_version(b"/large")).err == 0


def test_words_and_farewells_over_tls(dial: Dial, ports: tuple[int, int], pems: Path) -> None:
    """A word is answered and the connection ended; so is closing a session."""
    client = dial(ports[1], terms(pems))
    client.link.sendall(b"ruok")
    assert client.stream.read() == b"imok"
    client = dial(ports[1], terms(pems))
    client.connect()
    assert client.call(Op.CLOSE_SESSION).err == 0
    assert client.stream.read() == b""


def test_who_shows_nothing_is_not_let_in(dial: Dial, ports: tuple[int, int], pems: Path, tmp_path: Path) -> None:
    """No certificate, somebody else's certificate, no TLS at all: the connection ends, the port goes on."""
    make_certificates(tmp_path)
    foreign = terms(pems, shown=False)
    foreign.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    for context in (terms(pems, shown=False), foreign):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            dial(ports[1], context).connect()
    plain = dial(ports[1], None)
    plain.link.sendall(b"ruok" + bytes(40))
    with pytest.raises((AssertionError, ConnectionError)):
        assert plain.stream.read() == b"imok"
    good = dial(ports[1], terms(pems))
    good.connect()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kazoo_over_tls(ports: tuple[int, int], pems: Path) -> None:
    """The stock client with its own options for TLS."""
    kazoo_client = pytest.importorskip("kazoo.client")
    client = kazoo_client.KazooClient(
        f"127.0.0.1:{ports[1]}",
        use_ssl=True,
        ca=str(pems / "ca.pem"),
        certfile=str(pems / "client.crt"),
        keyfile=str(pems / "client.key"),
        check_hostname=False,
    )
    client.start(timeout=10)
    client.create("/kazoo", b"x")
    assert client.get("/kazoo")[0] == b"x"
    client.delete("/kazoo")
    client.stop()
    client.close()


def test_files_that_cannot_be_used(pems: Path, tmp_path: Path) -> None:
    """A missing file, or one that holds something else, is named before the port opens."""
    good = Secure("tcp:0", *(str(pems / name) for name in ("server.crt", "server.key", "ca.pem")), "need")
    tls._context(good)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for bad in (
        good._replace(certificate=str(tmp_path / "missing.pem")),
        good._replace(key=str(nonsense)),
        good._replace(authority=str(nonsense)),
        good._replace(key=str(pems / "client.key")),
    ):
        with pytest.raises(ValueError, match="cannot be used"):
            tls._context(bad)


class Paper:
    """A transport that only writes down."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self.said.append((name, *args))

    def getPeer(self) -> None:
        """Nobody in particular."""


def test_a_client_that_does_not_read_is_dropped() -> None:
    """What the transport has not sent yet is counted until the client takes it, and bounded; the end is told once."""
    room = Room()
    secure, paper = tls.SecureWire(room.fronts[0]), Paper()
    secure.makeConnection(paper)
    (client,) = room.fronts[0].connections.values()
    secure.send(b"a")
    assert secure.pending == 0
    secure.pauseProducing()
    secure.send(bytes(5))
    assert secure.pending == 5
    client.stalled = True
    secure.resumeProducing()
    assert (secure.pending, client.stalled) == (0, False)
    secure.pauseProducing()
    secure.send(bytes(tls.OUTPUT_LIMIT + 1))
    assert secure.closed
    secure.send(b"late")
    assert paper.said[-2:] == [("unregisterProducer",), ("abortConnection",)]
    secure.connectionLost()
    assert not room.fronts[0].connections


class Named(Paper):
    """One whose client showed a certificate with this subject."""

    def __init__(self, subject: str) -> None:
        super().__init__()
        subject_ = SimpleNamespace(rfc4514_string=lambda: subject)
        certificate = SimpleNamespace(to_cryptography=lambda: SimpleNamespace(subject=subject_))
        self.getPeerCertificate = lambda: certificate


def test_a_subject_out_of_all_proportion() -> None:
    """The longest name that is taken leaves a chunk room for all else that a client can prove; a longer one is none."""
    room = Room()
    for length, closed in ((tls.SUBJECT_MAX, False), (tls.SUBJECT_MAX + 1, True)):
        secure = tls.SecureWire(room.fronts[0])
        secure.makeConnection(Named("x" * length))
        secure.handshakeCompleted()
        assert secure.closed is closed
    assert tls.SUBJECT_MAX + proofs.PROVED_MAX + sasl.TOKEN_MAX < chunks.IDENTITIES_MAX - 1000


def test_the_last_answer_does_not_wait_for_ever() -> None:
    """A client that neither takes a farewell nor ends the connection is cut off after a while."""
    room = Room()
    secure, paper = tls.SecureWire(room.fronts[0]), Paper()
    secure.makeConnection(paper)
    secure.dataReceived(b"ruok")
    assert paper.said[-1] == ("loseConnection",)
    room.clock.advance(tls.LINGER_SECONDS)
    assert paper.said[-1] == ("abortConnection",)


def test_connections_are_bounded() -> None:
    """Beyond the bound, of one address or in all, a connection is ended before it says anything."""
    for options in ({"max-client-connections": "2"}, {"max-connections": "2"}):
        room = Room(**options)
        wires = [tls.SecureWire(room.fronts[0]) for _ in range(3)]
        for each in wires:
            each.makeConnection(Paper())
        assert [each.closed for each in wires] == [False, False, True]
        wires[0].connectionLost()
        again = tls.SecureWire(room.fronts[0])
        again.makeConnection(Paper())
        assert not again.closed
