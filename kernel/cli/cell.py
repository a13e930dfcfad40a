"""``quorate cell``: a whole cell on this machine, in the foreground, and orders to it from another terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..machine import Plain
from . import control, local
from .command import AT, Command, Complaint, Exit, positive_seconds

if TYPE_CHECKING:
    from .supervisor import SupervisorReactor


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = verbs.add_parser(
        "run",
        help="run a cell of several replicas here until Ctrl-C",
        description="Run a cell on this machine until Ctrl-C or SIGTERM. A replica that dies is started again a second "
        "later. With --dir a cell that was there before goes on with its data, also without a replica that cannot "
        "start, as long as a majority can.",
    )
    run.add_argument(
        "--dir", type=Path, help="where it keeps everything (default: a temporary folder, removed at a good end)"
    )
    run.add_argument(
        "--replicas", type=int, metavar="N", help="how many (default: 3, or as many as the cell in --dir has)"
    )
    run.add_argument(
        "--port",
        type=int,
        metavar="BASE",
        help="ZooKeeper clients on BASE+i, peers on BASE+10+i, native clients on BASE+20+i (default: free, remembered)",
    )
    run.add_argument(
        "--machine",
        action="append",
        metavar="NAME",
        help=f"load this machine into a fresh cell; again for more (default: {' '.join(local.MACHINES)})",
    )
    run.add_argument(
        "--allow",
        action="append",
        metavar="MODULE:CLASS",
        default=[],
        help="a machine that may be loaded besides the installed ones; this folder joins the replicas' import path",
    )
    run.add_argument(
        "--option",
        action="append",
        metavar="FACE.OPTION=VALUE",
        default=[],
        help="how the replicas' doors behave, such as zookeeper.tick=500; again for more, remembered; {index} in a "
        "value stands for the replica's number",
    )
    run.add_argument("--json", action="store_true", help="print one line of JSON once the cell serves")
    for order, summary in _ORDERS.items():
        verb = verbs.add_parser(order.value, help=summary, description=summary[0].upper() + summary[1:] + ".")
        verb.add_argument("index", type=int, metavar="N", help="which replica, counted from 0")
        verb.add_argument("--dir", type=Path, required=True, help="the folder of the running cell")
        verb.add_argument(
            "--timeout", type=positive_seconds, default=75.0, metavar="SECONDS", help="default: %(default)g"
        )


_ORDERS = {
    control.Order.STOP: "stop a replica; it stays stopped",
    control.Order.START: "start a replica; returns when it serves again",
    control.Order.KILL: "kill a replica with signal 9; it starts again a second later",
    control.Order.PAUSE: "freeze a replica's process",
    control.Order.RESUME: "let a frozen replica go on",
}


def _run(options: argparse.Namespace) -> int:
    if options.verb != "run":
        print(control.give(options.dir.absolute(), control.Order(options.verb), options.index, options.timeout))
        return Exit.DONE
    with _directory(options.dir) as directory, local.held(directory):
        known = local.load(directory)
        if known and known[1]:  # we hold the lock, so whoever wrote this was killed
            local.remove_control(known[1].control)
        cell = _cell(options, directory, known[0] if known else None)
        busy = local.busy_ports(cell)
        if len(busy) > cell.may_miss:
            ports = ", ".join(str(port) for each in busy.values() for port in each)
            raise Complaint(
                f"somebody listens on {ports}, which this cell needs",
                "stop whoever it is (`ss -ltnp` shows them), or give another --port for a fresh cell",
            )
        return _supervise(directory, cell, temporary=options.dir is None, as_json=options.json)


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    """The folder of the cell: the one given, made if need be, or a temporary one."""
    if given is None:
        made, kept = Path(tempfile.mkdtemp(prefix="quorate-cell-")), False
        try:
            yield made
        except Complaint:
            kept = any(made.glob("replica-*"))  # whose logs the complaint says to read
            raise
        finally:
            if not kept:
                shutil.rmtree(made, ignore_errors=True)
        return
    try:
        given.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Complaint(f"{given} cannot be made: {error.strerror}", "give a --dir that you may write to") from None
    yield given.absolute()


def _cell(options: argparse.Namespace, directory: Path, known: local.LocalCell | None) -> local.LocalCell:
    """The cell that `directory` holds, or a fresh one as the options say."""
    if known is None:
        count = local.check_replicas(3 if options.replicas is None else options.replicas)
        base = local.free_base(count) if options.port is None else local.check_port(options.port)
        machines = local.check_machines(options.machine or local.MACHINES, options.allow)
        cell = local.LocalCell(f"cell-{secrets.token_hex(4)}", count, base, machines)
    else:
        cell = known
        for flag, wanted, fact in (
            ("--replicas", options.replicas, cell.replicas),
            ("--port", options.port, cell.port),
            ("--machine", options.machine, list(cell.machines)),
        ):
            if wanted is not None and wanted != fact:
                raise Complaint(
                    f"the cell in {directory} was made with {flag} {fact}, not {wanted}",
                    f"leave {flag} out, or give another --dir for another cell",
                )
    local.front_options(options.option, 0)
    cell = cell._replace(options=local.merged_options(cell.options, options.option))
    if options.allow:
        allow = tuple(dict.fromkeys((*cell.allow, *options.allow)))
        cell = cell._replace(allow=allow, path=tuple(dict.fromkeys((*cell.path, os.getcwd()))))
    return cell


def _supervise(directory: Path, cell: local.LocalCell, *, temporary: bool, as_json: bool) -> int:
    """Run the reactor until the cell is stopped."""
    # The reactor is installed by its first import, so it is imported only by who runs it.
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from .signals import stop_on_signals
    from .supervisor import Supervisor

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    supervisor = Supervisor(cast("SupervisorReactor", reactor), directory, cell, tell)
    wrong: list[BaseException] = []

    async def work() -> None:
        path = supervisor.start()
        local.save(directory, cell, local.Running(os.getpid(), path))
        if temporary:
            tell(f"the cell keeps its files in {directory}, removed when it stops")
        found = await supervisor.serving()
        local.save(directory, supervisor.cell, local.Running(os.getpid(), path))
        facts = describe(directory, cell, supervisor.pids(), found)
        print(json.dumps(facts) if as_json else "\n".join(in_words(facts)), flush=True)

    def failed(failure: Failure) -> None:
        assert failure.value is not None
        wrong.append(failure.value)
        reactor.stop()

    def begin() -> None:
        Deferred.fromCoroutine(work()).addErrback(failed)

    stop_on_signals(reactor)
    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(supervisor.stop()))
    reactor.run()
    if wrong:
        with contextlib.suppress(Complaint):  # the first thing that went wrong is what to say
            local.save(directory, supervisor.cell, None)
        raise wrong[0]
    local.save(directory, supervisor.cell, None)
    return Exit.DONE


def describe(
    directory: Path, cell: local.LocalCell, pids: Sequence[int], found: Sequence[Mapping[str, Plain] | Complaint]
) -> dict[str, Any]:
    """What ``cell run --json`` prints. A replica that does not serve has "trouble", which says why, and the process
    that tries just now, if any."""
    replicas = []
    for index, (pid, each) in enumerate(zip(pids, found, strict=True)):
        row = {
            "index": index,
            "id": index + 1,
            "pid": pid or None,
            "client": cell.client(index),
            "zookeeper": cell.zookeeper(index),
            "dir": str(local.replica_directory(directory, index)),
        }
        replicas.append(row | {"trouble": each.what} if isinstance(each, Complaint) else row)
    leader = next(each["leader"] for each in found if not isinstance(each, Complaint))
    return {"cell": cell.cell, "dir": str(directory), "leader": leader, "replicas": replicas}


def in_words(facts: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    replicas = facts["replicas"]
    at = ",".join(each["client"] for each in replicas)
    serving = sum("trouble" not in each for each in replicas)
    count = str(serving) if serving == len(replicas) else f"{serving} of {len(replicas)}"
    noun = "replica" if len(replicas) == 1 else "replicas"
    lines = [f"Cell {facts['cell']} serves with {count} {noun}, data in {facts['dir']}"]
    for each in replicas:
        mark = "leads" if each["id"] == facts["leader"] else "MISSING" if "trouble" in each else ""
        lines.append(
            f"  replica {each['index']}  pid {each['pid'] or '-':<8} native {each['client']}  "
            f"ZooKeeper {each['zookeeper']}  {mark}".rstrip()
        )
    lines += ["In another terminal:", f"  export {AT}={at}", "  quorate status", "Ctrl-C stops the cell."]
    return lines


COMMAND = Command("cell", "run a cell on this machine, and order its replicas about", _configure, _run)
