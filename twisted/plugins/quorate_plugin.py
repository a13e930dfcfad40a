"""Lets ``twist quorate`` run a replica, and ``twist --reactor=quorate quorate`` run it on its own reactor."""

from __future__ import annotations

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

quorate = ServiceMaker(
    "Quorate replica",
    "quorate.kernel.server.tap",
    "One replica of a Quorate cell, a Multi-Paxos coordination service.",
    "quorate",
)

turns = Reactor("quorate", "quorate.kernel.server.reactor", "epoll, with an end of each turn: what replicas run on.")
