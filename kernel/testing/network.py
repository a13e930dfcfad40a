"""A simulated network between numbered places (members, and clients): a directed graph of links that can be cut.

*Datagrams* carry what members tell each other. They may be lost, doubled, overtake one another and arrive very late:
harsher than the TCP connections of a real cell, because the core promises to stand it. *Streams* carry the client
protocol, which relies on TCP's order: what meets a cut or a loss waits and is tried again, holding up what is behind
it, until the link is whole or one of the ends gives up.

Cuts are directed: with A to B cut and B to A whole, B hears nothing of A and A hears B. Any graph can be made of them.
Time in transit is decided when something is sent; whether a link is cut, when it would arrive and when it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Generic, NamedTuple, TypeVar

from .clock import MILLISECOND, Schedule

Packet = TypeVar("Packet")

RETRY_MIN: Final = 200 * MILLISECOND
RETRY_MAX: Final = 3_200 * MILLISECOND


class Weather(NamedTuple):
    """What links do to packets. Times in microseconds, the rest are probabilities.

    `uneven`: some links lose much more than `loss`, others nothing. `ordered`: no datagram overtakes another of the
    same link. `stray`: a datagram takes up to `stray_us` longer, so that it arrives when nobody expects it any more.
    """

    delay: int = 150
    jitter: int = 150
    ordered: bool = True
    loss: float = 0.0
    uneven: bool = False
    double: float = 0.0
    stray: float = 0.0
    stray_us: int = 5_000_000


class Traffic:
    """What the network has done, by kind."""

    __slots__ = ("cut", "doubled", "late", "lost", "overtaken", "sent")

    def __init__(self) -> None:
        self.sent = self.lost = self.doubled = self.late = self.overtaken = self.cut = 0


class Network(Generic[Packet]):
    """All links. `deliver(to, sender, packet)` is called when a datagram arrives."""

    def __init__(self, schedule: Schedule, random: Random, deliver: Callable[[int, int, Packet], None]) -> None:
        self.weather = Weather()
        self.traffic = Traffic()
        self._schedule = schedule
        self._random = random
        self._deliver = deliver
        self._cut: set[tuple[int, int]] = set()
        self._held: dict[tuple[int, int], int] = {}
        self._latest: dict[tuple[int, int], int] = {}
        self._factors: dict[tuple[int, int], int] = {}

    # ---------------------------------------------------------------- links

    def cut(self, sender: int, to: int) -> None:
        """Nothing gets from `sender` to `to` any more, not even what is on its way."""
        self._cut.add((sender, to))

    def separate(self, here: Iterable[int], there: Iterable[int]) -> None:
        """Cut every link between two groups, both ways."""
        others = list(there)
        for one in here:
            for other in others:
                self._cut.add((one, other))
                self._cut.add((other, one))

    def hold(self, sender: int, to: int, until: int) -> None:
        """What is sent from now on does not arrive before true time `until`."""
        self._held[sender, to] = until

    def mend(self) -> None:
        """Every link is whole again, and holds nothing back any more."""
        self._cut.clear()
        self._held.clear()

    def connected(self, sender: int, to: int) -> bool:
        return (sender, to) not in self._cut

    @property
    def cuts(self) -> frozenset[tuple[int, int]]:
        """The links that are cut, as (from, to)."""
        return frozenset(self._cut)

    # ---------------------------------------------------------------- datagrams

    def send(self, sender: int, to: int, packet: Packet) -> None:
        """Send a datagram."""
        traffic = self.traffic
        traffic.sent += 1
        link = (sender, to)
        if link in self._cut:
            traffic.cut += 1
            return
        _, _, _, loss, uneven, double, _, _ = self.weather
        if loss and self._random.random() < (self._uneven(link, loss) if uneven else loss):
            traffic.lost += 1
            return
        self._travel(link, packet)
        if double and self._random.random() < double:
            traffic.doubled += 1
            self._travel(link, packet)

    def _uneven(self, link: tuple[int, int], loss: float) -> float:
        factor = self._factors.get(link)
        if factor is None:
            factor = self._factors[link] = self._random.choice((0, 0, 1, 4, 15))
        return min(0.9, loss * factor)

    def _travel(self, link: tuple[int, int], packet: Packet) -> None:
        delay, jitter, ordered, _, _, _, stray, stray_us = self.weather
        chance = self._random.random
        arrival = self._schedule.now + delay + int(chance() * jitter)
        if self._held:
            arrival = max(arrival, self._held.get(link, 0))
        latest = self._latest.get(link, 0)
        if stray and chance() < stray:
            self.traffic.late += 1
            arrival += int(chance() * stray_us)
        elif ordered:
            self._latest[link] = arrival = arrival if arrival > latest else latest
        elif arrival < latest:
            self.traffic.overtaken += 1
        else:
            self._latest[link] = arrival
        self._schedule.at(arrival, self._arrive, link, packet)

    def _arrive(self, link: tuple[int, int], packet: Packet) -> None:
        if link in self._cut:
            self.traffic.cut += 1
        else:
            self._deliver(link[1], link[0], packet)

    # ---------------------------------------------------------------- streams

    def stream(self, sender: int, to: int, arrived: Callable[[Packet], None]) -> Stream[Packet]:
        """One direction of a connection."""
        return Stream(self, self._schedule, self._random, (sender, to), arrived)


class Stream(Generic[Packet]):
    """One direction of a connection: in order, without loss, for as long as it is open."""

    def __init__(
        self,
        network: Network[Packet],
        schedule: Schedule,
        random: Random,
        link: tuple[int, int],
        arrived: Callable[[Packet], None],
    ) -> None:
        self.open = True
        self._network = network
        self._schedule = schedule
        self._random = random
        self._link = link
        self._arrived = arrived
        self._waiting: list[Packet] = []
        self._retry = RETRY_MIN

    def send(self, packet: Packet) -> None:
        """Put `packet` behind what was sent before. Nothing once the stream is closed."""
        if not self.open:
            return
        self._waiting.append(packet)
        if len(self._waiting) == 1:
            self._depart()

    def close(self) -> None:
        """Nothing more arrives."""
        self.open = False
        self._waiting.clear()

    def _depart(self) -> None:
        weather = self._network.weather
        delay = weather.delay + int(self._random.random() * weather.jitter)
        if self._lost():
            delay += self._retry
            self._retry = min(RETRY_MAX, 2 * self._retry)
        self._schedule.after(delay, self._arrive)

    def _arrive(self) -> None:
        if not self.open:
            return
        if not self._network.connected(*self._link):
            self._depart()
            return
        self._retry = RETRY_MIN
        # Everything behind the first is in transit as well: it arrives in the same breath.
        packets, self._waiting = self._waiting, []
        for packet in packets:
            if self.open:
                self._arrived(packet)

    def _lost(self) -> bool:
        network = self._network
        if not network.connected(*self._link):
            return True
        loss = network.weather.loss
        return loss > 0 and self._random.random() < loss
