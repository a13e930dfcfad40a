"""The faults of the campaign: each strikes replicas of a real cell, holds for a while, and heals what it did.

A fault is a function on a :class:`Scene`. It calls :meth:`Scene.healed` at the moment from which the cell is owed a
recovery, and adds to `scene.wrong` what did not go as the documentation says. Where the cell must lose a replica for
good (a disk that forgot something), the fault says so in `replica.lost`, and the cell goes on without it.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from damage import Mode, Region, damage, files, newer_format
from disk_shim import Rule, library
from histories import ANSWER_SECONDS, ROOT, connected
from quorate.kernel.server.snapshotting import PAUSE_SECONDS
from real_cell import TIMING, Ended, RealCell, Replica, wait_until

LEASE: Final = TIMING.lease_ms / 1000
STRIKE_SECONDS: Final = 20.0
"""How long a fault that waits for the disk may wait."""


class Scene:
    """A cell under load, and the chances of one fault. `words`: what exactly was done."""

    def __init__(self, cell: RealCell, random: Random) -> None:
        self.cell = cell
        self.random = random
        self.words: list[str] = []
        self.wrong: list[str] = []
        self.healed_at = 0

    def healed(self) -> None:
        """Everything that was broken and can be healed is healed now."""
        self.healed_at = time.monotonic_ns()

    def one(self) -> Replica:
        """A replica to strike: the leader every other time."""
        leader = self.cell.leader()
        usable = [each for each in self.cell.replicas if not each.lost]
        victim = leader if leader in usable and self.random.random() < 0.5 else self.random.choice(usable)
        assert victim is not None
        self.words.append(f"{'leader' if victim is leader else 'follower'} {victim.index}")
        return victim

    def some(self) -> list[Replica]:
        """One replica, a minority, a majority, or all of them."""
        usable = [each for each in self.cell.replicas if not each.lost]
        count = self.random.choice((1, 1, len(usable) // 2, len(usable) // 2 + 1, len(usable)))
        first = self.one()
        rest = [each for each in usable if each is not first]
        victims = [first, *self.random.sample(rest, max(0, count - 1))]
        self.words.append(f"{len(victims)} of {len(usable)}")
        return victims

    def hold(self, least: float = 0.0, most: float = 3.0) -> None:
        """Let it last."""
        time.sleep(self.random.uniform(least, most))

    def back(self, *replicas: Replica) -> None:
        """Start these; the cell is owed its recovery once they answer."""
        for each in replicas:
            each.start()
        for each in replicas:
            each.answers()
        self.healed()

    def down(self, replica: Replica) -> None:
        """End its process, in either way."""
        replica.stop() if self.random.random() < 0.5 else replica.kill()

    def expect(self, condition: Callable[[], bool], otherwise: str, seconds: float = STRIKE_SECONDS) -> bool:
        """Wait for what must come about."""
        try:
            wait_until(condition, seconds, otherwise)
        except TimeoutError as error:
            self.wrong.append(str(error))
            return False
        return True

    def expect_ailing(self, replica: Replica, why: str) -> None:
        """It must stop voting, stay a process that can be asked, and say why."""

        def ails() -> bool:
            status = replica.status()
            return status is not None and why in str(status["ailing"])

        self.expect(ails, f"replica {replica.index} does not say {why!r}; it says {replica.status()}")

    def expect_refusal(self, replica: Replica, why: str) -> None:
        """Its process must refuse to start, with words."""
        replica.start()
        try:
            replica.answers()
        except Ended as ended:
            if why not in replica.words():
                self.wrong.append(f"replica {replica.index} refuses with other words than {why!r}: {ended}")
        else:
            self.wrong.append(f"replica {replica.index} starts although its directory is not its own ({why!r})")
            replica.kill()


Fault = Callable[[Scene], None]


# ---------------------------------------------------------------- processes


def kill(scene: Scene) -> None:
    """kill -9, of one or of several at once."""
    victims = scene.some()
    for each in victims:
        each.kill()
    scene.hold()
    scene.back(*victims)


def stop(scene: Scene) -> None:
    """An orderly stop and start."""
    victims = scene.some()
    for each in victims:
        each.stop()
    scene.hold()
    scene.back(*victims)


def pause(scene: Scene) -> None:
    """SIGSTOP for longer than the lease."""
    victims = scene.some()
    for each in victims:
        each.pause()
    scene.hold(1.5 * LEASE, 5.0)
    for each in victims:
        each.resume()
    scene.healed()


def stutter(scene: Scene) -> None:
    """Many short pauses, about as long as the lease."""
    victim = scene.one()
    for _ in range(scene.random.randrange(3, 12)):
        victim.pause()
        scene.hold(0.5 * LEASE, 1.5 * LEASE)
        victim.resume()
        scene.hold(0.0, LEASE)
    scene.healed()


def cascade(scene: Scene) -> None:
    """The leader is killed, and whoever leads next, while the first is not back."""
    victims: list[Replica] = []
    for _ in range(len(scene.cell.replicas) // 2 + 1):
        if scene.expect(lambda: (each := scene.cell.leader()) is not None and each.alive, "nobody leads"):
            leader = scene.cell.leader()
            if leader is None or not leader.alive:
                break
            leader.kill()
            victims.append(leader)
            scene.hold(0.0, 1.0)
    scene.words.append(f"{len(victims)} leaders")
    scene.back(*victims)


# ---------------------------------------------------------------- disks that fail


def _struck(
    scene: Scene, victim: Replica, rule: Rule, value: int = 0, *, left: int, pause: float = 0.0, **options: bool
) -> bool:
    """Order a fault and wait until it strikes; it is then still in force. For so many seconds the replica may not do
    what it strikes."""
    victim.disk.order(rule, value, left=left, **options)
    scene.words.append(f"{rule.name.lower()} {left}")
    return scene.expect(lambda: victim.disk.struck > 0, f"{rule.name} does not strike", pause + STRIKE_SECONDS)


def crash(scene: Scene, rule: Rule, left: int) -> None:
    """The process dies at its `left`-th sync or write from now, as the rule says."""
    victim = scene.one()
    if _struck(scene, victim, rule, left=left):
        victim.gone()
        scene.back(victim)


def crash_at_sync(scene: Scene) -> None:
    """The process dies right before or right after its n-th sync."""
    crash(scene, scene.random.choice((Rule.DIE_BEFORE_SYNC, Rule.DIE_AFTER_SYNC)), scene.random.randrange(1, 60))


def torn_write(scene: Scene) -> None:
    """Half of the n-th write reaches the file, then the process dies."""
    crash(scene, Rule.TORN_WRITE, scene.random.randrange(1, 60))


def crash_at_start(scene: Scene) -> None:
    """The process dies at the n-th sync of its start, again and again, then starts."""
    victim = scene.one()
    scene.down(victim)
    for left in sorted(scene.random.sample(range(1, 9), 3)):
        victim.start()
        victim.disk.order(Rule.DIE_BEFORE_SYNC, left=left)
        if scene.expect(lambda: victim.disk.struck > 0, f"the start has not {left} syncs"):
            victim.gone()
    scene.back(victim)


def fail(scene: Scene, rule: Rule, left: int, number: int = errno.EIO) -> None:
    """The replica votes no more, stays a process that can be asked, and goes on after a restart."""
    victim = scene.one()
    if _struck(scene, victim, rule, number, left=left, forever=rule is Rule.FAIL_WRITE):
        scene.expect_ailing(victim, os.strerror(number))
        scene.down(victim)
        scene.back(victim)


def failing_sync(scene: Scene) -> None:
    """EIO or ENOSPC from a sync, at once or at its end: there is no telling what is on the disk."""
    rule, number = (
        scene.random.choice((Rule.FAIL_SYNC, Rule.FAIL_SYNC_LATE)),
        scene.random.choice((errno.EIO, errno.ENOSPC)),
    )
    scene.words.append(os.strerror(number))
    fail(scene, rule, scene.random.randrange(1, 40), number)


def failing_write(scene: Scene) -> None:
    """EIO from every write."""
    fail(scene, Rule.FAIL_WRITE, scene.random.randrange(1, 40))


def failing_snapshot(scene: Scene) -> None:
    """The forked process that writes a snapshot gets EIO, or dies: the replica goes on as if nothing had been."""
    victim = scene.one()
    rule = scene.random.choice((Rule.DIE_BEFORE_SYNC, Rule.FAIL_SYNC, Rule.FAIL_WRITE))
    # A snapshot that failed under the fault before is tried again after a pause.
    if _struck(scene, victim, rule, errno.EIO, left=1, pause=PAUSE_SECONDS, children=True):
        scene.hold(0.0, 1.0)
        victim.disk.clear()
        if victim.alive:
            scene.expect(victim.serves, f"replica {victim.index} suffers from its child")
        else:
            scene.wrong.append(f"replica {victim.index} dies with its child: {victim.last_words()}")
    scene.healed()


def fill(scene: Scene) -> bool:
    """No room for anything new, on one replica, a majority, or all, while much is written: nobody gives up, and no
    restart is needed when there is room again. Returns whether any replica said that its disk is full."""
    victims = scene.some()
    kazoo = connected(scene.cell.zookeepers)
    kazoo.ensure_path(f"{ROOT}/bulk")
    for each in victims:
        each.disk.order(Rule.NO_ROOM, errno.ENOSPC, left=1, forever=True)
    answers = [kazoo.set_async(f"{ROOT}/bulk", bytes(200_000)) for _ in range(40)]
    scene.hold(2.0, 4.0)
    full = [each.index for each in victims if (each.status() or {}).get("full")]
    scene.words.append(f"{full} say that they are full")
    for each in victims:
        each.disk.clear()
    _after_room(scene, victims)
    for answer in answers:
        answer.wait(ANSWER_SECONDS)
    kazoo.stop()
    kazoo.close()
    return bool(full)


def full_disk(scene: Scene) -> None:
    """A full disk, as far as what is written needs room."""
    fill(scene)


def failing_room(scene: Scene) -> None:
    """ENOSPC from every write, also where there was room, as on file systems that copy on write."""
    victims = scene.some()
    for each in victims:
        each.disk.order(Rule.FAIL_WRITE, errno.ENOSPC, left=1, forever=True)
    scene.expect(lambda: any(each.disk.struck for each in victims), "the disk is not full")
    scene.hold(0.5, 3.0)
    for each in victims:
        each.disk.clear()
    _after_room(scene, victims)


def _after_room(scene: Scene, victims: list[Replica]) -> None:
    """There is room again: nobody may have given up for want of it, and everybody finds it out, by looking once a
    second."""
    scene.expect(lambda: not any((each.status() or {}).get("full") for each in victims), "still said to be full", 5.0)
    for each in victims:
        if each.answers()["ailing"]:
            scene.wrong.append(f"replica {each.index} gave up for want of room: {each.last_words()}")
    scene.healed()


def file_size_limit(scene: Scene) -> None:
    """No file may grow, and some no longer be written (RLIMIT_FSIZE, with its short writes and EFBIG)."""
    victim = scene.one()
    limit = scene.random.choice((1 << 12, 1 << 16, 300_000))
    scene.words.append(f"{limit} bytes")
    resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    scene.hold(1.0, 4.0)
    resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    _after_room(scene, [victim])


def slow_disk(scene: Scene) -> None:
    """Every sync takes long, on one replica or on several."""
    victims = scene.some()
    delay = scene.random.choice((30, 150, 700))
    scene.words.append(f"{delay} ms")
    for each in victims:
        each.disk.order(Rule.SLOW_SYNC, delay, left=1, forever=True)
    scene.hold(1.0, 4.0)
    for each in victims:
        each.disk.clear()
    scene.healed()


# ---------------------------------------------------------------- directories that are not what they were


def _copy(replica: Replica, name: str) -> Path:
    """A copy of its directory, taken while it is down."""
    to = replica.directory.with_name(f"{replica.directory.name}.{name}")
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(replica.directory, to)
    return to


def _restore(replica: Replica, copy: Path) -> None:
    shutil.rmtree(replica.directory, ignore_errors=True)
    copy.rename(replica.directory)


def damaged_file(scene: Scene) -> None:
    """Bytes of one file change while the replica is down: it heals, or says that it cannot, and never guesses."""
    victim, random = scene.one(), scene.random
    scene.down(victim)
    copy = _copy(victim, "whole")
    path = random.choice(files(victim.directory))
    scene.words.append(damage(path, random.choice(list(Mode)), random.choice(list(Region)), random))
    _start_damaged(scene, victim, copy)


def flip(scene: Scene, kind: str) -> None:
    """One bit of the newest file whose name begins so flips while the replica is down."""
    victim = scene.one()

    def there() -> list[Path]:
        return [each for each in files(victim.directory) if each.name.startswith(kind) and each.suffix != ".copy"]

    scene.expect(lambda: bool(there()), f"replica {victim.index} has no {kind}")
    scene.down(victim)
    copy = _copy(victim, "whole")
    path = max(there())
    scene.words.append(damage(path, Mode.FLIP, Region.MIDDLE, scene.random))
    _start_damaged(scene, victim, copy)


def lost_file(scene: Scene) -> None:
    """One file is gone."""
    victim = scene.one()
    scene.down(victim)
    copy = _copy(victim, "whole")
    path = scene.random.choice(files(victim.directory))
    path.unlink()
    scene.words.append(f"without {path.name}")
    _start_damaged(scene, victim, copy)


def foreign_file(scene: Scene) -> None:
    """One file is another replica's of the same name."""
    victim, random = scene.one(), scene.random
    other = random.choice([each for each in scene.cell.replicas if each is not victim])
    scene.down(victim)
    copy = _copy(victim, "whole")
    shared = {each.name for each in files(victim.directory)} & {each.name for each in files(other.directory)}
    name = random.choice(sorted(shared))
    shutil.copyfile(other.directory / name, victim.directory / name)
    scene.words.append(f"{name} of {other.index}")
    _start_damaged(scene, victim, copy)


def _start_damaged(scene: Scene, victim: Replica, copy: Path) -> None:
    """Start on a directory with damage. If that is refused, nothing may have been written: the undamaged copy is put
    back. If the replica starts and says that it never votes again, the cell has lost it."""
    victim.start()
    try:
        status = victim.answers()
    except Ended as ended:
        scene.words.append(f"refused: {ended}")
        if "Traceback" in victim.words():
            scene.wrong.append(f"a traceback instead of words: {victim.words()}")
        _restore(victim, copy)
        scene.back(victim)
        return
    shutil.rmtree(copy)
    words = victim.words()
    if "never votes again" in words or status["ailing"]:
        victim.lost = True
        scene.words.append("never votes again")
        victim.kill()
    scene.healed()


def wiped(scene: Scene) -> None:
    """The directory is gone: the replica begins a new disk, and its peers refuse it. Then the old one is found."""
    victim = scene.one()
    scene.down(victim)
    copy = _copy(victim, "found")
    shutil.rmtree(victim.directory)
    victim.start()
    scene.expect_ailing(victim, "a peer refuses its disk")
    scene.hold(0.0, 2.0)
    victim.kill()
    _restore(victim, copy)
    scene.back(victim)


def rolled_back(scene: Scene) -> None:
    """An older copy of the directory is put back; then the newest."""
    victim = scene.one()
    scene.down(victim)
    older = _copy(victim, "older")
    victim.start()
    victim.answers()
    scene.expect(victim.serves, f"replica {victim.index} does not serve")
    scene.hold(0.5, 3.0)
    scene.down(victim)
    newest = _copy(victim, "newest")
    _restore(victim, older)
    victim.start()
    scene.expect_ailing(victim, "a peer refuses its disk")
    scene.hold(0.0, 2.0)
    victim.kill()
    _restore(victim, newest)
    scene.back(victim)


def swapped(scene: Scene) -> None:
    """Two replicas have each other's directory: both refuse it, and go on with their own."""
    usable = [each for each in scene.cell.replicas if not each.lost]
    one, two = scene.random.sample(usable, 2)
    scene.words.append(f"{one.index} and {two.index}")
    scene.down(one)
    scene.down(two)
    _swap(one, two)
    for each in (one, two):
        scene.expect_refusal(each, "nothing was changed")
    _swap(one, two)
    scene.back(one, two)


def _swap(one: Replica, two: Replica) -> None:
    aside = one.directory.with_name("aside")
    one.directory.rename(aside)
    two.directory.rename(one.directory)
    aside.rename(two.directory)


def other_cell(scene: Scene) -> None:
    """The directory is that of a member of the same id in another cell."""
    victim = scene.one()
    scene.down(victim)
    copy = _copy(victim, "own")
    stranger = RealCell(scene.cell.directory / "stranger", len(scene.cell.replicas), name="stranger")
    other = stranger.replicas[victim.index]
    shutil.rmtree(other.directory, ignore_errors=True)
    other.start()
    other.answers()
    other.kill()
    shutil.rmtree(victim.directory)
    shutil.copytree(other.directory, victim.directory)
    scene.expect_refusal(victim, "nothing was changed")
    _restore(victim, copy)
    scene.back(victim)


def newer(scene: Scene) -> None:
    """A file was written by a release to come: refused, and nothing is changed."""
    victim = scene.one()
    scene.down(victim)
    copy = _copy(victim, "own")
    scene.words.append(newer_format(victim.directory, scene.random))
    before = _contents(victim.directory)
    scene.expect_refusal(victim, "has format 2")
    if _contents(victim.directory) != before:
        scene.wrong.append("a directory of a newer format was changed")
    _restore(victim, copy)
    scene.back(victim)


def _contents(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in files(directory)}


def out_of_descriptors(scene: Scene) -> None:
    """The process may open no more files than it has open, and loses its links meanwhile."""
    victim = scene.one()
    soft, hard = resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)
    open_now = len(os.listdir(f"/proc/{victim.pid}/fd"))
    resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (open_now, hard))
    scene.hold(1.0, 4.0)
    resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (soft, hard))
    _after_room(scene, [victim])


# ---------------------------------------------------------------- the network


def _apart(scene: Scene, pairs: set[tuple[int, int]], least: float = 1.5 * LEASE, most: float = 4.0) -> None:
    """Cut these directions for a while."""
    network = scene.cell.network
    assert network is not None
    network.cut(pairs)
    scene.words.append(" ".join(f"{one}>{other}" for one, other in sorted(pairs)))
    scene.hold(least, most)
    network.heal()
    scene.healed()


def _between(some: set[int], others: set[int]) -> set[tuple[int, int]]:
    return {(a, b) for a in some for b in others if a != b}


def _all(scene: Scene) -> set[int]:
    return set(range(len(scene.cell.replicas)))


def isolated(scene: Scene) -> None:
    """One replica, or a minority, is cut off from the others."""
    first = scene.one().index
    count = scene.random.randrange(1, len(scene.cell.replicas) // 2 + 1)
    some = {first, *scene.random.sample(sorted(_all(scene) - {first}), count - 1)}
    others = _all(scene) - some
    _apart(scene, _between(some, others) | _between(others, some))


def one_way(scene: Scene) -> None:
    """A replica hears and is not heard, or the other way round."""
    first = {scene.one().index}
    others = _all(scene) - first
    _apart(scene, scene.random.choice((_between(first, others), _between(others, first))))


def one_pair(scene: Scene) -> None:
    """Two replicas do not reach each other, and both reach the rest."""
    first = scene.one().index
    other = scene.random.choice(sorted(_all(scene) - {first}))
    _apart(scene, {(first, other), (other, first)})


def only_one_sees_all(scene: Scene) -> None:
    """All links are cut but those of one replica: nobody else has a quorum."""
    hub = scene.one().index
    rest = _all(scene) - {hub}
    _apart(scene, _between(rest, rest))


def nobody_sees_anybody(scene: Scene) -> None:
    """All links are cut."""
    _apart(scene, _between(_all(scene), _all(scene)))


def random_cuts(scene: Scene) -> None:
    """Each direction is cut or not, anew every now and then."""
    network = scene.cell.network
    assert network is not None
    for _ in range(scene.random.randrange(2, 6)):
        network.cut({pair for pair in _between(_all(scene), _all(scene)) if scene.random.random() < 0.4})
        scene.hold(0.1, 1.5)
        network.heal()
        scene.hold(0.0, 0.5)
    scene.healed()


def cut_and_kill(scene: Scene) -> None:
    """The leader is cut off, another is killed, and the leader comes back before it."""
    network = scene.cell.network
    assert network is not None
    victim = scene.one()
    other = scene.random.choice([each for each in scene.cell.replicas if each is not victim])
    network.cut(_between({victim.index}, _all(scene)) | _between(_all(scene), {victim.index}))
    scene.hold(0.0, 2.0)
    other.kill()
    scene.hold(0.0, 1.0)
    network.heal()
    scene.back(other)


NETWORKS: Final[tuple[Fault, ...]] = (
    isolated,
    one_way,
    one_pair,
    only_one_sees_all,
    nobody_sees_anybody,
    random_cuts,
    cut_and_kill,
)
PROCESSES: Final[tuple[Fault, ...]] = (kill, stop, pause, stutter, cascade, out_of_descriptors)
DISKS: Final[tuple[Fault, ...]] = (
    crash_at_sync,
    torn_write,
    crash_at_start,
    failing_sync,
    failing_write,
    failing_snapshot,
    full_disk,
    failing_room,
    file_size_limit,
    slow_disk,
)
DIRECTORIES: Final[tuple[Fault, ...]] = (
    damaged_file,
    damaged_file,
    lost_file,
    foreign_file,
    wiped,
    rolled_back,
    swapped,
    other_cell,
    newer,
)


def menu(partitions: bool = False) -> list[Fault]:
    """Every fault that can be had here; what needs a C compiler is left out where there is none, and partitions where
    the replicas have no networks of their own."""
    needs_shim = set(DISKS) - {file_size_limit}
    found = [*PROCESSES, *DISKS, *DIRECTORIES, *(NETWORKS if partitions else ())]
    return found if library() is not None else [each for each in found if each not in needs_shim]
