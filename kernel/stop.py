"""Why a replica must stop: going on could make it differ from the others."""

from __future__ import annotations


class StopReplica(Exception):
    """This replica cannot apply the log as the others do: memory ran out, code is missing or too old, a bug in the
    kernel.

    What it has applied so far must not be served or stored any more; the log and the snapshots on its disk are good. A
    new process starts from them.
    """


class MissingPlugin(StopReplica):
    """The cell has loaded a machine whose code, in the version agreed on, is not installed here."""
