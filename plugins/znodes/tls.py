"""The second port: the same clients, over TLS.

TLS takes Twisted's ordinary transport, as nothing on this path is so fast that a lean connection would show. What the
client's certificate says of it counts as an identity of scheme ``x509``: the subject as RFC 4514 writes it.

pyOpenSSL (the extra ``tls``) is imported when the port is opened, not before: replicas without one need not have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import IHandshakeListener, IOpenSSLContextFactory, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from .settings import Secure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorTCP, IReactorTime
    from twisted.python.failure import Failure

    from .connection import Connection
    from .front import ZooKeeperFront

    class Reactor(IReactorTCP, IReactorTime):
        """What a secure port asks of a reactor."""


OUTPUT_LIMIT: Final = 16 << 20
"""Bytes kept for a client that does not read before it is dropped."""
SUBJECT_MAX: Final = 8 << 10
"""Bytes of a certificate's subject, which travels with each chunk of its client."""
LINGER_SECONDS: Final = 2.0
"""How long a client has to take its last answer and end the connection."""


@implementer(IHandshakeListener, IPushProducer)
class SecureWire(Protocol):
    """A client's TLS connection, as :class:`.wire.Wire` wants it.

    Towards the transport it is the producer of what is sent: `pending` counts what was sent since the transport said
    that it has enough."""

    def __init__(self, front: ZooKeeperFront) -> None:
        self.closed = False
        self.pending = 0
        self._front = front
        self._full = False
        self._client: Connection | None = None
        self._lingering: IDelayedCall | None = None

    @property
    def _wire(self) -> Any:
        return self.transport

    # ------------------------------------------------------------ what the transport tells

    def connectionMade(self) -> None:
        """A client wants to shake hands; it has the time of a greeting for it."""
        peer = self._wire.getPeer()
        self._wire.registerProducer(self, True)
        self._client = self._front.admit(self, (peer.host, peer.port) if hasattr(peer, "port") else "")
        if self._client is None:
            self.close()

    def handshakeCompleted(self) -> None:
        """The client showed its certificate, or has none and needs none. One with a name out of all proportion is sent
        away."""
        certificate = self._wire.getPeerCertificate()
        if certificate is not None and self._client is not None:
            subject = certificate.to_cryptography().subject.rfc4514_string().encode()
            if len(subject) > SUBJECT_MAX:
                self.close()
            else:
                self._client.prove(((b"x509", subject),))

    def dataReceived(self, arrived: bytes) -> None:
        """Bytes came in."""
        if self._client is not None and not self.closed:
            self._client.received(arrived)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended, by whoever's doing."""
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        self.closed = True
        if self._client is not None:
            self._front.gone(self._client)

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._full = True

    def resumeProducing(self) -> None:
        """The client has taken what was sent."""
        self._full = False
        self.pending = 0
        if self._client is not None and not self.closed:
            self._client.drained()

    def stopProducing(self) -> None:
        """The connection is ending."""

    # ------------------------------------------------------------ what the client's connection does

    def send(self, piece: bytes) -> None:
        """Send, or keep for a client that is slow; one that is too slow is dropped."""
        if self.closed:
            return
        self._wire.write(piece)
        if self._full:
            self.pending += len(piece)
            if self.pending > OUTPUT_LIMIT:
                self.close()

    def close(self, after_flush: bool = False) -> None:
        """End the connection."""
        if self.closed:
            return
        self.closed = True
        self._wire.unregisterProducer()
        if after_flush:
            self._wire.loseConnection()
            self._lingering = self._front.reactor.callLater(LINGER_SECONDS, self._wire.abortConnection)
        else:
            self._wire.abortConnection()

    def pause(self) -> None:
        """Read no further for now."""
        self._wire.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if not self.closed:
            self._wire.resumeProducing()


class _Clients(Factory[SecureWire]):
    noisy = False

    def __init__(self, front: ZooKeeperFront) -> None:
        self._front = front

    def buildProtocol(self, addr: IAddress | None) -> SecureWire:
        return SecureWire(self._front)


@implementer(IOpenSSLContextFactory)
class _Keys:
    """What TLSMemoryBIOFactory asks for the terms of each connection."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def getContext(self) -> Any:
        return self._context


def listen(front: ZooKeeperFront, secure: Secure, port: int, interface: str) -> IListeningPort:
    """Open the port. Raises ValueError for files that cannot be used, or if pyOpenSSL is not installed."""
    from twisted.internet.error import CannotListenError

    try:
        from twisted.protocols.tls import TLSMemoryBIOFactory
    except ImportError as missing:
        raise ValueError(f"a secure endpoint needs quorate[tls] ({missing})") from None
    factory = TLSMemoryBIOFactory(_Keys(_context(secure)), False, _Clients(front))
    try:
        return cast("Any", front.reactor).listenTCP(port, factory, backlog=1024, interface=interface)  # type: ignore[no-any-return]
    except CannotListenError as error:
        raise OSError(f"the secure endpoint {secure.endpoint} cannot be opened: {error.socketError}") from None


def _context(secure: Secure) -> Any:
    """The terms: TLS 1.2 or newer, our certificate, and what clients must show."""
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    for path, load in (
        (secure.certificate, context.use_certificate_chain_file),
        (secure.key, context.use_privatekey_file),
        (secure.authority, context.load_verify_locations),
    ):
        if path:
            try:
                load(path)
            except SSL.Error as error:
                raise ValueError(f"{path} cannot be used: {error}") from None
    if secure.client_certificates != "none":
        must = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if secure.client_certificates == "need" else 0
        context.set_verify(SSL.VERIFY_PEER | must, lambda _link, _certificate, _error, _depth, good: bool(good))
    return context
