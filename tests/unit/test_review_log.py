"""The log of the review: killed writers and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.site import Site, open_site
from client.tasks.case_keys import open_queue
from client.tasks.review_case import open_case, put_back, reject_case
from common.errors import Refused
from tests.review_site import write_review_site

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(write_review_site(tmp_path, 4))


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from client.review.events import Opened, PutBack
from client.review.queue import ReviewQueue
queue = ReviewQueue(Path(sys.argv[1]), lambda: datetime.now(UTC))
while True:
    queue.record("case-00", Opened(reader="R1"), PutBack())
    print("written", flush=True)
"""


def test_killed_at_any_moment_the_log_stays_whole(site: Site):
    """SIGKILL a writer again and again; a second writer at the same time; the chain holds and work goes on."""
    folder = site.settings.cache / "review"
    for wait_s in (0.02, 0.07, 0.13):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout.readline() == b"written\n"
        time.sleep(wait_s)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        lines = open_queue(site).history()
        assert [*range(1, len(lines) + 1)] == [line.number for line in lines]
        case = open_queue(site).find("case-00")
        assert case.state in ("needs_review", "in_review")
        if case.state == "in_review":
            put_back(site, "case-00", reader="R1")
    assert "in_review" == open_case(site, "case-00", "R1").case.state


def test_a_full_disk_decides_nothing(site: Site, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(Refused, match="review-log-unwritable"):
            reject_case(site, "case-00", by="R1", reason="x")

    assert "needs_review" == open_queue(site).find("case-00").state
    assert "rejected" == reject_case(site, "case-00", by="R1", reason="x").state
