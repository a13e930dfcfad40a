"""``quorate replica``: one replica in the foreground, by configuration file or by flags.

It starts on whatever its directory holds; nothing has to be initialized first. The flags describe a local cell, as
``quorate cell run`` and benchmarks use it; everything else goes into a file.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import local
from .command import Command, Complaint, Exit

if TYPE_CHECKING:
    from ..server.config import ReplicaConfig


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file that says everything; no other flag then"
    )
    parser.add_argument("--dir", type=Path, help="where it keeps its data")
    parser.add_argument("--index", type=int, metavar="I", help="which replica of a local cell it is, counted from 0")
    parser.add_argument(
        "--replicas", type=int, metavar="N", default=3, help="how many the cell has (default: %(default)d)"
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="BASE",
        help="ZooKeeper clients on BASE+I, peers on BASE+10+I, native clients on BASE+20+I, all on 127.0.0.1",
    )
    parser.add_argument("--cell", default="local", metavar="NAME", help="the cell's name (default: %(default)s)")
    parser.add_argument(
        "--machine",
        action="append",
        metavar="NAME",
        help=f"load this machine into a fresh cell; again for more (default: {' '.join(local.MACHINES)})",
    )
    parser.add_argument(
        "--allow",
        action="append",
        metavar="MODULE:CLASS",
        default=[],
        help="a machine that may be loaded besides the installed",
    )
    parser.add_argument(
        "--option",
        action="append",
        metavar="FACE.OPTION=VALUE",
        default=[],
        help="how a door behaves, such as zookeeper.tick=500; again for more; {index} stands for I",
    )
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")


_FLAGS: Final = ("dir", "port", "machine", "allow", "option")
"""Besides --index, what one would give in vain beside --config."""


def configuration(options: argparse.Namespace) -> ReplicaConfig:
    """What the file or the flags say. A Complaint if they do not say enough."""
    from ..server.config import BadConfiguration, ReplicaConfig

    if options.config is not None:
        besides = [f"--{each}" for each in _FLAGS if getattr(options, each)]
        if besides or options.index is not None:
            raise Complaint(
                f"--config and {' and '.join(besides or ['--index'])}", "give the file or the flags", Exit.REFUSED
            )
        try:
            return ReplicaConfig.from_toml(options.config)
        except BadConfiguration as bad:
            raise Complaint(str(bad), "the reference of the configuration lists what may stand there") from None
        except OSError as error:
            raise Complaint(f"{options.config} cannot be read: {error.strerror}", "name a readable TOML file") from None
    missing = [f"--{each}" for each in ("dir", "index", "port") if getattr(options, each) is None]
    if missing:
        raise Complaint(f"{' and '.join(missing)} missing", "give them, or --config FILE", Exit.REFUSED)
    count = local.check_replicas(options.replicas)
    if not 0 <= options.index < count:
        raise Complaint(f"--index {options.index} of {count} replicas", "they are counted from 0", Exit.REFUSED)
    port = local.check_port(options.port)
    machines = local.check_machines(options.machine or local.MACHINES, options.allow)
    cell = local.LocalCell(options.cell, count, port, machines, tuple(options.allow), options=tuple(options.option))
    return local_configuration(cell, options.index, options.dir)


def local_configuration(cell: local.LocalCell, index: int, directory: Path) -> ReplicaConfig:
    """The configuration of replica `index` of a local cell."""
    from ..server.config import CLIENT, BadConfiguration, Founder, ReplicaConfig

    def zookeeper(each: int) -> str:
        return f"tcp:{cell.zookeeper(each)}"

    founders = (
        Founder(each + 1, cell.peer(each), ((CLIENT, cell.client(each)), ("zookeeper", zookeeper(each))))
        for each in range(cell.replicas)
    )
    try:
        return ReplicaConfig(
            cell=cell.cell,
            member=index + 1,
            directory=directory.absolute(),
            peer=_listening(cell.peer(index)),
            client=_listening(cell.client(index)),
            founders=tuple(founders),
            doors={"zookeeper": _listening(zookeeper(index))},
            options=local.front_options(cell.options, index),
            machines=cell.machines,
            allow=cell.allow,
        )
    except BadConfiguration as bad:
        raise Complaint(str(bad), "a local cell has the door zookeeper", Exit.REFUSED) from None


def _listening(client: str) -> str:
    """The server's endpoint string for a client's."""
    kind, host, port = client.split(":")
    return f"{kind}:{port}:interface={host}"


def _allow_descriptors(most: int) -> None:
    """Let this process open as many files as it may, but no more than `most`; shells give few, for old programs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _run(options: argparse.Namespace) -> int:
    config = configuration(options)
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from ..server import garbage
    from ..server.child import DESCRIPTORS_MAX
    from ..server.reactor import install
    from ..server.service import NO_START, make_replica_service, why
    from .parent import live_with_parent
    from .signals import stop_on_signals

    reactor = install()
    _allow_descriptors(DESCRIPTORS_MAX)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    if options.supervised:
        live_with_parent(reactor)
    garbage.start()
    service = make_replica_service(config, reactor)  # type: ignore[arg-type]
    try:
        service.startService()
    except NO_START as error:
        raise Complaint(why(config, error)) from None
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    stop_on_signals(reactor)
    reactor.run()
    if service.failure is not None:
        raise Complaint(service.failure)
    return Exit.DONE


COMMAND = Command("replica", "run one replica in the foreground", _configure, _run)
