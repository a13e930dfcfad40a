"""Serve fronts on a fake cell: ``znodes_serve.py REPLICAS [option=value ...]`` prints the ports once they are open
(behind them those for TLS, if there are any), then runs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from quorate.plugins.znodes.front import ZooKeeperFront
from znodes_cell import FakeCell


def main() -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor

    options = dict(word.split("=", 1) for word in sys.argv[2:])
    cell = FakeCell(reactor, int(sys.argv[1]), tick_ms=max(int(options.get("tick", "2000")) // 4, 50))
    fronts = [ZooKeeperFront(seat, reactor, "tcp:0", options) for seat in cell.seats]
    for front in fronts:
        front.startService()
    hosts = [",".join(f"127.0.0.1:{front.port()}" for front in fronts)]
    if "secure" in options:
        hosts.append(",".join(f"127.0.0.1:{front.secure_port()}" for front in fronts))
    sys.stdout.write(" ".join(hosts) + "\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
