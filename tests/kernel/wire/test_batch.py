"""Batches, chunks and requests as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.wire import plain
from quorate.kernel.wire.batch import (
    BATCH_HEAD,
    VERSION,
    BatchHead,
    UnknownVersion,
    batch_head,
    chunk_head,
    iter_chunks,
    pack_batch,
    pack_chunk,
    pack_request,
    request_head,
    wrap_payload,
)

PLACES = st.tuples(
    st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary()
)
COUNTS = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1), st.lists(PLACES))
def test_batch_round_trip(time: int, wall: int, epoch: int, places: list[tuple[int, int, int, int, bytes]]) -> None:
    """Head, places and bodies of a batch come back as they were packed."""
    chunks = [pack_chunk(*place) for place in places]
    payload = pack_batch(time, wall, epoch, chunks)
    assert batch_head(payload) == BatchHead(time, wall, epoch, BATCH_HEAD.size)
    found = list(iter_chunks(payload, BATCH_HEAD.size))
    assert [(c.machine, c.member, c.incarnation, c.sequence, payload[c.body_start : c.end]) for c in found] == places
    assert [payload[c.start : c.end] for c in found] == chunks


def test_the_form_is_the_documented_one() -> None:
    """These bytes are in journals: they must not change."""
    chunk = pack_chunk(17, 2, 3, 4, b"body")
    assert chunk.hex() == "00000016001100000002000000030000000000000004626f6479"
    assert pack_batch(5, 6, 7, [chunk]).hex() == "01000000000000000500000000000000060000000000000007" + chunk.hex()


@given(st.lists(PLACES, min_size=1, max_size=3), st.data())
def test_cut_chunks_are_malformed(places: list[tuple[int, int, int, int, bytes]], drawn: st.DataObject) -> None:
    """A run of chunks that ends inside one is refused there, after those before it."""
    run = b"".join(pack_chunk(*place) for place in places)
    ends = {chunk.end for chunk in iter_chunks(run)}
    cut = drawn.draw(st.integers(1, len(run) - 1))
    if cut in ends:
        assert len(list(iter_chunks(run[:cut]))) == len([end for end in ends if end <= cut])
    else:
        with pytest.raises(plain.Malformed):
            list(iter_chunks(run[:cut]))


def test_a_length_smaller_than_a_place_is_malformed() -> None:
    """A length that would make a reader stand still is refused."""
    chunk = pack_chunk(1, 1, 1, 1, b"")
    with pytest.raises(plain.Malformed):
        chunk_head(b"\x00\x00\x00\x00" + chunk[4:])


def test_versions_of_batches() -> None:
    """A later format is told apart from rubbish: the one must stop a replica, the other is void."""
    payload = pack_batch(1, 2, 3, [])
    for later in (bytes([VERSION + 1]) + payload[1:], bytes([VERSION + 1])):
        with pytest.raises(UnknownVersion):
            batch_head(later)
    for rubbish in (b"", b"\x00" + payload[1:], payload[:-1]):
        with pytest.raises(plain.Malformed):
            batch_head(rubbish)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.lists(TEXT, max_size=3), TEXT, st.lists(st.integers(0, 100)))
def test_request_round_trip(
    session: int, number: int, acknowledged: int, events: int, identities: list[str], name: str, args: list[int]
) -> None:
    """A request made of values and one made of a client's payload are the same bytes, and come back."""
    body = pack_request(
        name,
        args,
        session=session,
        number=number,
        acknowledged=acknowledged,
        events_acknowledged=events,
        identities=identities,
    )
    assert body == wrap_payload(
        plain.encode([name, args]),
        session=session,
        number=number,
        acknowledged=acknowledged,
        events_acknowledged=events,
        identities=identities,
    )
    request = request_head(body)
    assert (request.session, request.number, request.acknowledged) == (session, number, acknowledged)
    assert (request.events_acknowledged, list(request.identities), request.command) == (events, identities, name)
    assert plain.decode(bytes(request.args)) == args


@pytest.mark.parametrize(
    "body",
    [
        b"",
        plain.encode("x"),
        plain.encode([0, 0, 0, 0, [], "x"]),
        plain.encode([0, 0, 0, 0, [], "x", [], 1]),
        plain.encode([-1, 0, 0, 0, [], "x", []]),
        plain.encode([0, 1 << 63, 0, 0, [], "x", []]),
        plain.encode([0, True, 0, 0, [], "x", []]),
        plain.encode([0, 0, 0, 0, [1], "x", []]),
        plain.encode([0, 0, 0, 0, [], b"x", []]),
        pack_request("x") + b"\x00",
        pack_request("x")[:-1] + b"\x91" * 5000,
        pack_request("x")[:-2] + b"\xff\x90",
    ],
)
def test_malformed_requests(body: bytes) -> None:
    """Whatever is no request is refused as a whole."""
    with pytest.raises(plain.Malformed):
        request_head(body)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_request_or_malformed(body: bytes) -> None:
    """Reading a request never raises anything else."""
    try:
        request_head(body)
    except plain.Malformed:
        return


def test_a_payload_must_be_a_pair() -> None:
    """What is not [command, arguments] does not get into a request."""
    for payload in (b"", plain.encode("x"), plain.encode(["x"]), plain.encode(["x", [], 1])):
        with pytest.raises(plain.Malformed):
            wrap_payload(payload, session=1, number=1, acknowledged=0, events_acknowledged=0, identities=[])
