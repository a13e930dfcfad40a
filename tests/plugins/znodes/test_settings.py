"""What the options of the door may say."""

from __future__ import annotations

import re

import pytest
from quorate.plugins.znodes import settings
from quorate.plugins.znodes.chunks import Allow
from quorate.plugins.znodes.protocol import FRAME_MAX
from quorate.plugins.znodes.settings import Secure, Settings


def test_nothing_said() -> None:
    """Without options everything is as the field defaults say, and nothing that weakens is on."""
    plain = Settings.parse({})
    assert plain == Settings()
    assert (plain.tick_ms, plain.timeout_min_ms, plain.timeout_max_ms) == (2000, 4000, 40_000)
    assert (plain.frame_max, plain.allow, plain.users, plain.secure) == (FRAME_MAX, Allow.NOTHING, {}, None)
    assert (plain.reconfig, plain.read_only, plain.local_sessions, plain.super_digest) == (False, False, False, b"")


def test_time_outs_follow_the_tick() -> None:
    """Time-outs are multiples of the tick unless they are given; clients are kept between them."""
    mine = Settings.parse(
        {"tick": "100", "max-session-timeout": "500", "extended-types": "true", "words": "ruok, srvr"}
    )
    assert (mine.timeout_min_ms, mine.timeout_max_ms, mine.grace_ms) == (200, 500, 200)
    assert (mine.allow, mine.words) == (Allow.EXTENDED_TYPES, {"ruok", "srvr"})
    assert Settings.parse({"enforce-quota": "true"}).allow == Allow.ENFORCE_QUOTA
    assert [mine.negotiate(asked) for asked in (0, 300, 9000)] == [200, 300, 500]


def test_users_and_a_second_port() -> None:
    """Users come with their passwords; a secure endpoint comes with its files."""
    files = {"secure": "tcp:2281", "certificate": "c.pem", "key": "k.pem"}
    mine = Settings.parse({"sasl.ann": "x:y", "sasl.bob.b": "", "authority": "a.pem", **files})
    assert mine.users == {b"ann": b"x:y", b"bob.b": b""}
    assert mine.secure == Secure("tcp:2281", "c.pem", "k.pem", "a.pem", "need")
    open_to_all = Settings.parse({"client-certificates": "none", **files})
    assert open_to_all.secure == Secure("tcp:2281", "c.pem", "k.pem", "", "none")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"tock": "1", "tack": "2"}, "unknown options: tack, tock"),
        ({"tick": "soon"}, "tick=soon is invalid"),
        ({"tick": "-1"}, "tick=-1 is invalid"),
        ({"tick": "0"}, "sessions from 0 to 0 ms are impossible"),
        ({"min-session-timeout": "50000"}, "sessions from 50000 to 40000 ms are impossible"),
        ({"frame-max": "16777201"}, "frame-max=16777201 is invalid: 16777200 at most"),
        ({"words": "nope"}, "unknown four-letter words: nope"),
        ({"read-only": "yes"}, "read-only=yes is invalid: true or false"),
        ({"client-certificates": "perhaps"}, "need, want, none are known"),
        ({"certificate": "c.pem"}, "belong to a secure endpoint"),
        ({"secure": "tcp:1"}, "secure=tcp:1 needs certificate and key and authority"),
        ({"secure": "tcp:1", "client-certificates": "none", "key": "k"}, "needs certificate"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(bad: dict[str, str], words: str) -> None:
    """What is unknown, no number, or only half of what is needed says so."""
    with pytest.raises(ValueError, match=re.escape(words)):
        Settings.parse(bad)


def test_every_option_is_explained() -> None:
    """The module's table, which is the reference page, names the options there are and no others."""
    rows = re.findall(r"^(``.*?``)  ", settings.__doc__ or "", re.MULTILINE)
    named = {each.strip("`") for row in rows for each in row.split(", ")}
    assert len(named) == 21
    with pytest.raises(ValueError, match=r"unknown options: xyz$"):
        Settings.parse(
            {each: "1" for each in named if each not in ("words", "client-certificates")}
            | dict.fromkeys(("extended-types", "enforce-quota", "reconfig", "read-only", "local-sessions"), "true")
            | {"words": "ruok", "client-certificates": "want", "xyz": ""}
        )
