"""What a replica's configuration may say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from quorate.kernel.paxos.quorum import Role
from quorate.kernel.server.config import BadConfiguration, Founder, ReplicaConfig

GOOD = """
cell = "main"
member = 2
directory = "data"
machines = ["znodes", "locks"]

[listen]
peer = "tcp:7410"
client = "tcp:7420"
zookeeper = "tcp:2181"

[members.1]
peer = "tcp:10.0.0.1:7410"
client = "tcp:10.0.0.1:7420"

[members.2]
peer = "tcp:10.0.0.2:7410"
client = "tcp:10.0.0.2:7420"
zookeeper = "tcp:10.0.0.2:2181"

[timing]
lease_ms = 800

[options.zookeeper]
tick = 500
words = "*"
extended-types = true
"""


def read(directory: Path, text: str) -> ReplicaConfig:
    path = directory / "replica.toml"
    path.write_text(text)
    return ReplicaConfig.from_toml(path)


def test_reads_everything(tmp_path: Path) -> None:
    """Every part lands where it belongs; paths count from the file."""
    config = read(tmp_path, GOOD)
    assert config.directory == tmp_path / "data"
    assert config.machines == ("znodes", "locks")
    assert config.doors == {"zookeeper": "tcp:2181"}
    assert config.paxos_options().lease == 800_000
    assert [member.id for member in config.founding.members] == [1, 2]
    assert all(member.role is Role.VOTER for member in config.founding.members)
    assert dict(config.founding.members[1].doors)["zookeeper"] == "tcp:10.0.0.2:2181"


@pytest.mark.parametrize(("limits", "bound"), [("", 64 << 20), ("batch = 30_000_000\nwindow_slots = 16", 960_000_000)])
def test_what_may_be_on_its_way_is_no_sign_of_a_disk_that_hangs(tmp_path: Path, limits: str, bound: int) -> None:
    """With large batches a cell that is well would stop voting, and turn its clients away, whenever it is busy."""
    config = read(tmp_path, GOOD.replace("[timing]", f"[limits]\n{limits}\n[timing]"))
    assert config.paxos_options().unwritten == bound


def test_the_text_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """The cell's name makes its id: read in another way it would be another cell, or no file at all."""
    path = tmp_path / "replica.toml"
    path.write_bytes(GOOD.replace('"main"', '"b\u00fcro"').encode())
    read = "import sys, pathlib, quorate.kernel.server.config as c; "
    read += "print(ascii(c.ReplicaConfig.from_toml(pathlib.Path(sys.argv[1])).cell))"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-X", "utf8=0", "-P", "-c", read, str(path)]
    done = subprocess.run(words, env=plain, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("'b\\xfcro'\n", "")


def test_options_of_a_door_are_text(tmp_path: Path) -> None:
    """Numbers, truths and lists become text; a table gives names with dots. What they mean is the front's affair."""
    said = """[options.zookeeper]
tick = 500
read-only = true
words = ["ruok", "srvr"]
sasl.ann = "secret"
[options.zookeeper.sasl.more]
bob = "b"
[timing]"""
    config = read(tmp_path, GOOD.split("[options.")[0].replace("[timing]", said))
    assert config.options == {
        "zookeeper": {
            "tick": "500",
            "read-only": "true",
            "words": "ruok,srvr",
            "sasl.ann": "secret",
            "sasl.more.bob": "b",
        }
    }
    assert read(tmp_path, GOOD.split("[options.")[0]).options == {}


def test_the_cell_is_known_by_its_name_and_founders(tmp_path: Path) -> None:
    """Every founder derives the same 16 bytes, whatever else differs; another name or founder makes another cell."""
    config = read(tmp_path, GOOD)
    same = read(tmp_path, GOOD.replace("member = 2", "member = 1").replace("tcp:7410", "tcp:7411", 1))
    assert config.cell_id == same.cell_id
    assert len(config.cell_id) == 16
    assert read(tmp_path, GOOD.replace('"main"', '"other"')).cell_id != config.cell_id
    assert read(tmp_path, GOOD.replace("10.0.0.1:7410", "10.0.0.9:7410")).cell_id != config.cell_id


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('cell = "main"', "", "does not say 'cell'"),
        ("member = 2", "member = 0", "between 1 and 65535"),
        ("member = 2", 'member = "2"', "is no int"),
        ("[members.1]", "[members.one]", "with a number"),
        ("lease_ms = 800", "leese_ms = 800", "leese_ms, which nobody reads"),
        ("lease_ms = 800", "lease_ms = 100", "four times"),
        ("lease_ms = 800", "lease_ms = 0", "above 0"),
        ("lease_ms = 800", "drift_percent = 100", "below 100"),
        ("[timing]", "[limits]\nbatch = 50_000_000\n[timing]", "batch must be at most 33554432"),
        ("tcp:7420", "tcp:x", "names no port"),
        ('peer = "tcp:7410"', "", "does not say 'peer'"),
        ("[timing]", "[[", "is no TOML"),
        ('machines = ["znodes", "locks"]', "machines = 3", "no list of strings"),
        ("[timing]", "[tuning]", "tuning, which nobody reads"),
        ("[options.zookeeper]", "[options.dns]", "options for dns, where no door is"),
        ("[options.zookeeper]", "[options]\nzookeeper = 3\n[options.b]", r"options\.zookeeper\] is no table"),
        ("tick = 500", "tick = 1.5", "tick = 1.5 is no text"),
        ("[options.zookeeper]", "[limits]\n[[options]]", "no table of tables"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, old: str, new: str, words: str) -> None:
    """Each mistake is named, with the file."""
    assert old in GOOD
    with pytest.raises(BadConfiguration, match=words) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "replica.toml" in str(caught.value)


def test_founders_are_distinct(tmp_path: Path) -> None:
    """Two members cannot share an id."""
    founder = Founder(1, "tcp:127.0.0.1:1", ())
    with pytest.raises(BadConfiguration, match="different ones"):
        ReplicaConfig("c", 1, tmp_path, "tcp:1", "tcp:2", (founder, founder))


def test_members_take_their_snapshots_at_different_moments(tmp_path: Path) -> None:
    """Little state or much: no two of five members do so after as much log."""
    founders = tuple(Founder(member, "tcp:127.0.0.1:1", ()) for member in range(1, 6))
    options = [ReplicaConfig("c", n, tmp_path, "tcp:1", "tcp:2", founders).node_options() for n in range(1, 6)]
    for name in ("snapshot_bytes", "snapshot_growth", "snapshot_slots"):
        assert len({getattr(each, name) for each in options}) == len(options), name
