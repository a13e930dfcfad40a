"""What a connection is doing, from its first bytes to its end::

    GREETING --four-letter word--> closed after the answer
       | connect request
    OPENING  (the session is opened or moved here, through the log; requests that arrive meanwhile wait unread)
       | connect response
    OPEN     --closeSession, refused authentication, unknown request--> ENDING (nothing more is read)

CHANGING interrupts OPEN while the membership is changed for this client: nothing behind its request is looked at; and
READING stands in place of OPEN where there is no quorum: reads are answered, everything else is refused.
"""

from __future__ import annotations

from enum import Enum, auto


class Stage(Enum):
    """What a connection is doing."""

    GREETING = auto()
    OPENING = auto()
    OPEN = auto()
    CHANGING = auto()
    READING = auto()
    ENDING = auto()
