"""Lets ``twist quorate`` run a replica."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

quorate = ServiceMaker(
    "Quorate replica",
    "quorate.kernel.server.tap",
    "One replica of a Quorate cell, a Multi-Paxos coordination service.",
    "quorate",
)
