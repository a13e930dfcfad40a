"""What the roles of one member share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .acceptor import Acceptor
from .catchup import CatchUp
from .effects import Effects
from .learner import Learner
from .options import Options
from .roster import Roster

if TYPE_CHECKING:
    from random import Random


class Parts(NamedTuple):
    """One member's settings, randomness, roster, effects, and the two roles that it always plays."""

    options: Options
    random: Random
    roster: Roster
    effects: Effects
    acceptor: Acceptor
    learner: Learner
    catchup: CatchUp
