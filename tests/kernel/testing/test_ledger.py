"""The ledger of a campaign, and the command that writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from quorate.kernel.testing import simulate
from quorate.kernel.testing.ledger import FINE, Ledger, Outcome, code


def failed(seed: int, verdict: str = "one value") -> Outcome:
    """A seed that broke a promise."""
    return Outcome(seed, "swarm", 1.5, 1.0, None, f"seed {seed}: {verdict}\nand more", verdict)


def test_the_command_goes_on_where_the_ledger_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each seed has a line with what it was and what happened; the next command runs fresh ones; the summary adds up
    both."""
    path = tmp_path / "logs" / "campaign.jsonl"
    for _ in range(2):
        assert simulate.main(["--seeds", "1", "--first", "7", "--jobs", "1", "--log", str(path), "--json"]) == 0
    entries = list(Ledger(path).lines())
    assert [entry["seed"] for entry in entries] == [7, 8]
    for entry in entries:
        assert entry["verdict"] == FINE
        assert entry["code"] == code()
        assert entry["operations"] >= 200
        assert entry["simulated"] > 5
        assert len(entry["faults"]) > 0
    capsys.readouterr()
    assert simulate.main(["--summary", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["seeds"] == 2
    assert facts["failed"] == []
    assert facts["operations"] == sum(entry["operations"] for entry in entries)
    assert list(facts["states"].values()) == [2]


def test_a_failed_seed_is_counted_by_its_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary names the seed and the promise, and fails."""
    ledger = Ledger(tmp_path / "log")
    ledger.add(failed(3))
    ledger.add(failed(5, "L1"))
    assert simulate.main(["--summary", str(ledger.path), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["failed"] == [3, 5]
    assert facts["verdicts"] == {"L1": 1, "one value": 1}


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    """What a power cut left of the last line is cut away before the next one is written."""
    ledger = Ledger(tmp_path / "log")
    ledger.add(failed(3))
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + whole[:20])
    assert ledger.next_seed() == 4
    ledger.open()
    ledger.add(failed(4))
    assert [entry["seed"] for entry in ledger.lines()] == [3, 4]


@pytest.mark.parametrize("text", ["[]\n", "no\n", '{"seed": 1}\n', '{"seed": "x", "verdict": "fine"}\n'])
def test_another_file_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no ledger is named with the line, and nothing is run or written."""
    path = tmp_path / "other"
    path.write_text(text)
    with pytest.raises(SystemExit):
        simulate.main(["--seeds", "1", "--log", str(path)])
    assert "line 1" in capsys.readouterr().err
    assert path.read_text() == text
