"""The review page in a real browser: load, draw, undo, save, accept; and what the server tells a stranger."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from client.review.page import serve_page
from client.site import Site, open_site
from client.tasks.case_keys import open_queue
from client.tasks.review_page import ReaderDesk
from tests.review_site import write_review_site


@contextmanager
def served(site: Site, reader: str) -> Iterator[str]:
    """The page's address while it is served."""
    told: list = []
    there = threading.Event()

    def ready(address: str, server: object) -> None:
        told.extend((address, server))
        there.set()

    thread = threading.Thread(target=serve_page, args=(ReaderDesk(site, reader),), kwargs={"ready": ready})
    thread.start()
    assert there.wait(10)
    try:
        yield told[0]
    finally:
        told[1].shutdown()
        thread.join(10)


def wait(browser, condition: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not browser.execute_script(f"return Boolean(window.review) && Boolean({condition})"):
        told = browser.execute_script("return document.getElementById('told').textContent")
        assert time.monotonic() < end, f"{condition}: {told}"
        time.sleep(0.1)


def press(browser, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def stroke(browser, canvas: str) -> None:
    """From the crosshair a little to the side, in the axial plane."""
    from selenium.webdriver import ActionChains

    x, y = browser.execute_script(
        "const v = window.review.views[arguments[0]], c = v.canvas, s = v.screenSlices.find((t) => t.axCorSag === 0);"
        "const [l, t, w, h] = s.leftTopWidthHeight, d = v.uiData.dpr, r = c.getBoundingClientRect();"
        "return [l / d + w / d * 0.3 - r.width / 2, t / d + h / d * 0.5 - r.height / 2]",
        canvas,
    )
    element = browser.find_element("id", canvas)
    ActionChains(browser).move_to_element_with_offset(element, round(x), round(y)).click_and_hold().move_by_offset(
        12, 0
    ).move_by_offset(12, 0).release().perform()


VOXELS = "Object.values(window.review.views).map((v) => v.drawBitmap.reduce((n, x) => n + x, 0))"


@pytest.mark.slow
def test_a_reader_draws_undoes_saves_and_accepts(tmp_path: Path, browser):
    """A stroke on FLAIR shows on T1CE, lies on the drawn side, is undone by one key, saved and accepted."""
    site = open_site(write_review_site(tmp_path, 2))
    first = open_queue(site).waiting_for("R1", lambda p: 0.0)[0].pseudonym
    with served(site, "R1") as address:
        browser.get(address)
        wait(browser, "!window.review.state.busy")
        assert first == browser.execute_script("return window.review.state.case")
        untouched = browser.execute_script(f"return {VOXELS}")

        press(browser, "]", "]")
        stroke(browser, "flair")
        wait(browser, "window.review.state.undo.length === 1")
        drawn = browser.execute_script(f"return {VOXELS}")
        assert drawn[0] == drawn[1] > untouched[0] == untouched[1]
        press(browser, "u")
        assert untouched == browser.execute_script(f"return {VOXELS}")
        stroke(browser, "flair")
        wait(browser, "window.review.state.undo.length === 1")
        press(browser, "s")
        wait(browser, "document.getElementById('told').textContent === 'Saved'")
        press(browser, "a", "2")
        browser.find_element("id", "ask-accept").find_element("css selector", "button.main").click()
        wait(browser, f"window.review.state.case && window.review.state.case !== '{first}'")

        case = open_queue(site).find(first)
        assert "accepted" == case.state
        reading = case.readings[0]
        assert (drawn[0] - untouched[0], 0) == (reading.added_voxels, reading.removed_voxels)
        assert "minor" == reading.edit
        mask = open_queue(site).masks.get(case.accepted_mask)
        automatic = sitk.ReadImage(
            str(next((site.settings.cache / "prepared").glob(f"{case.material.preparation}/tumour_mask*")))
        )
        added = np.argwhere(sitk.GetArrayFromImage(mask) > sitk.GetArrayFromImage(automatic))
        # A radiologist's left is the patient's right, which in LPS comes first.
        assert added[:, 2].max() < mask.GetSize()[0] / 2

        press(browser, "a", "1")
        browser.find_element("id", "ask-accept").find_element("css selector", "button.main").click()
        wait(browser, "document.getElementById('case').textContent === 'Nothing to read'")
    assert {"accepted"} == {case.state for case in open_queue(site).cases().values()}
    complaints = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [] == complaints
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    hosts = {
        m["params"]["request"]["url"].split("/")[2]
        for m in requests
        if m["method"] == "Network.requestWillBeSent" and m["params"]["request"]["url"].startswith("http")
    }
    assert {address.split("/")[2]} == hosts


def fetch(address: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(address, data, headers)  # noqa: S310  # loopback
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_command_prints_one_address_and_closes_quietly(tmp_path: Path):
    """The line a script waits for; Ctrl-C is how it ends, with exit code 0."""
    site = write_review_site(tmp_path, 1)
    # A test run in the background of a shell inherits that interrupts are ignored.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listen}; from client.cli import main; main()"
    words = ["review", "page", "--site", str(site), "--reader", "R1", "--no-browser"]
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            assert 200 == fetch(address)[0]
            process.send_signal(signal.SIGINT)
            rest, told = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (0, "") == (process.returncode, rest)
    assert "closed" in told


def test_a_stranger_is_told_nothing(tmp_path: Path):
    """Without the token, under another host name, from another page, or for a case that another reader has open."""
    site = open_site(write_review_site(tmp_path, 1))
    with served(site, "R1") as address:
        host = address.split("/")[2]
        assert 200 == fetch(address)[0]
        assert (404, b"") == fetch(f"http://{host}/")
        assert (404, b"") == fetch(f"http://{host}/guess/api/queue")
        assert (404, b"") == fetch(f"{address}../../site.yaml")
        assert (404, b"") == fetch(f"{address}api/queue", Host="evil.example")
        assert (404, b"") == fetch(f"{address}api/case-00/open", b"{}", Origin="http://evil.example")
        with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), timeout=10) as line:
            # Announced, never sent: an answer shows that nothing waits for it.
            line.sendall(
                f"POST /guess/api/case-00/open HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9999\r\n\r\n".encode()
            )
            assert line.recv(100).startswith(b"HTTP/1.1 404")
        assert 409 == fetch(f"{address}api/case-00/t1ce.nii")[0]
        assert 200 == fetch(f"{address}api/case-00/open", b"{}")[0]
        status, image = fetch(f"{address}api/case-00/t1ce.nii")
        assert (200, b"n+1") == (status, image[344:347])
        assert 409 == fetch(f"{address}api/case-00/mask", image)[0]
        with served(site, "R2") as colleague:
            assert 409 == fetch(f"{colleague}api/case-00/mask.nii.gz")[0]
            assert [] == json.loads(fetch(f"{colleague}api/queue")[1])["cases"]
