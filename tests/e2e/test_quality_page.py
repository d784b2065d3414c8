"""The quality page in a real browser: sorted, filtered, with its pictures, and without a single request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK as sitk

from client.ingest.manifest import read_manifest
from client.ingest.read_case import input_fingerprint
from client.site import open_site
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore
from client.tasks.case_keys import case_keys
from client.tasks.case_mosaic import draw_mosaic
from client.tasks.case_quality import with_mask_measures
from client.tasks.quality_page import look_at_quality, render_quality
from tests.review_site import prepared_case, write_review_site

SHOWN = "[...document.querySelectorAll('#cases article')].filter((a) => !a.hidden).map((a) => a.dataset.case)"


@pytest.mark.slow
def test_the_page_sorts_filters_and_fetches_nothing(tmp_path: Path, browser):
    """case-01 is noisy and case-02 scattered: they come first; the order of a column is the order of its oddness."""
    from selenium.webdriver.support.ui import Select

    site = open_site(write_review_site(tmp_path, 4))
    store, book = PreparedStore(site.settings.cache), FingerprintBook(site.settings.cache)
    for number, row in enumerate(read_manifest(site.settings.manifest, site="hospital")):
        quality = {
            "snr_t1ce": (20.0, 2.0, 15.0, 18.0)[number],
            "brain_volume_ml": (1600.0, 1500.0, 1590.0, 1400.0)[number],
        }
        case = with_mask_measures(replace(prepared_case(number), quality=tuple(quality.items())))
        if number == 2:
            case = replace(case, quality=(*case.quality, ("tumour_parts", 9.0)))
        store.save(case_keys(site, book.look_up(row, input_fingerprint), None).preparation, case)
        draw_mosaic(case, site.settings.cache / "pictures" / f"{row.pseudonym}.jpg", "mni152")
    page = tmp_path / "quality.html"
    page.write_text(render_quality(site, look_at_quality(site)))

    browser.get(page.as_uri())

    assert ["case-02", "case-01"] == browser.execute_script(f"return {SHOWN}")[:2]
    Select(browser.find_element("id", "order")).select_by_value("snr_t1ce")
    assert "case-01" == browser.execute_script(f"return {SHOWN}")[0]
    Select(browser.find_element("id", "order")).select_by_value("brain_volume_ml")
    assert ["case-03", "case-01", "case-02", "case-00"] == browser.execute_script(f"return {SHOWN}")
    Select(browser.find_element("id", "order")).select_by_value("case")
    assert ["case-00", "case-01", "case-02", "case-03"] == browser.execute_script(f"return {SHOWN}")
    browser.find_element("id", "only").click()
    assert ["case-01", "case-02"] == browser.execute_script(f"return {SHOWN}")
    drawn = "return [...document.images].every((i) => i.complete && i.naturalWidth > 0) && document.images.length"
    assert 5 == browser.execute_script(drawn)
    assert "of which 2 to look at" in browser.find_element("id", "counts").text
    assert [] == [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in told if m["method"] == "Network.requestWillBeSent"]
    assert {page.as_uri()} == {
        address for address in asked if not address.startswith(("data:", "chrome:", "chrome-untrusted:"))
    }
    assert sitk.ReadImage(str(site.settings.cache / "pictures" / "case-00.jpg")).GetSize()[0] > 900
