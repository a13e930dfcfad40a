"""The simulated network: what it may do to messages, and what not."""

from __future__ import annotations

from random import Random

import pytest
from quorate.kernel.testing.clock import Schedule
from quorate.kernel.testing.network import Network, Weather

A, B, C = 1, 2, 3


class Lan:
    """A network whose deliveries are written down as (to, sender, packet)."""

    def __init__(self, weather: Weather = Weather()) -> None:  # noqa: B008 - immutable
        self.schedule = Schedule()
        self.got: list[tuple[int, int, str]] = []
        self.network: Network[str] = Network(self.schedule, Random(1), lambda *what: self.got.append(what))
        self.network.weather = weather

    def send(self, count: int, sender: int = A, to: int = B) -> None:
        for n in range(count):
            self.network.send(sender, to, str(n))
            self.schedule.run_until(self.schedule.now + 10)

    def wait(self) -> None:
        self.schedule.run_until(self.schedule.now + 20_000_000)


def test_fair_weather_keeps_everything_in_order() -> None:
    """By default every datagram arrives once, in order, after some time."""
    lan = Lan()
    lan.send(200)
    assert len(lan.got) < 200
    lan.wait()
    assert lan.got == [(B, A, str(n)) for n in range(200)]


@pytest.mark.parametrize(
    ("weather", "fact"),
    [(Weather(loss=0.3), "lost"), (Weather(double=0.3), "doubled"), (Weather(stray=0.3), "late"),
     (Weather(ordered=False, jitter=1000), "overtaken"), (Weather(loss=0.1, uneven=True), "sent")],
)  # fmt: skip
def test_bad_weather_does_what_it_says(weather: Weather, fact: str) -> None:
    """Loss loses, doubling doubles, strays are late and overtaken ones arrive later than they were sent; each is
    counted."""
    lan = Lan(weather)
    lan.send(300)
    lan.wait()
    assert getattr(lan.network.traffic, fact) > 30
    numbers = [int(packet) for _, _, packet in lan.got]
    if fact == "lost":
        assert len(numbers) == 300 - lan.network.traffic.lost
    if fact == "doubled":
        assert len(numbers) == 300 + lan.network.traffic.doubled
    if fact in ("late", "overtaken"):
        assert sorted(numbers) == list(range(300))
        assert numbers != sorted(numbers)


def test_a_cut_is_directed_and_takes_what_is_on_its_way() -> None:
    """Nothing passes a cut link, in its direction only; mending makes it whole."""
    lan = Lan()
    lan.network.send(A, B, "on its way")
    lan.network.cut(A, B)
    lan.network.send(A, B, "lost")
    lan.network.send(B, A, "back")
    lan.network.send(A, C, "elsewhere")
    lan.wait()
    assert sorted(lan.got) == [(A, B, "back"), (C, A, "elsewhere")]
    assert lan.network.cuts == {(A, B)}
    lan.network.mend()
    lan.network.send(A, B, "again")
    lan.wait()
    assert lan.got[-1] == (B, A, "again")


def test_groups_are_separated_both_ways() -> None:
    """Between separated groups nothing passes, inside them everything."""
    lan = Lan()
    lan.network.separate([A, C], [B])
    for sender, to in ((A, B), (B, A), (C, B), (B, C), (A, C), (C, A)):
        lan.network.send(sender, to, "x")
    lan.wait()
    assert sorted(lan.got) == [(A, C, "x"), (C, A, "x")]


def test_a_stream_keeps_its_order_through_loss_and_cuts() -> None:
    """A stream delivers everything once and in order, later if it must; a closed one nothing more."""
    lan = Lan(Weather(loss=0.4))
    got: list[str] = []
    stream = lan.network.stream(A, B, got.append)
    for n in range(50):
        stream.send(str(n))
        if n == 20:
            lan.network.cut(A, B)
        lan.schedule.run_until(lan.schedule.now + 50_000)
    assert len(got) <= 21
    lan.network.mend()
    lan.wait()
    assert got == [str(n) for n in range(50)]
    stream.send("late")
    stream.close()
    stream.send("too late")
    lan.wait()
    assert len(got) == 50
