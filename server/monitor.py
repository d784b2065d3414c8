"""monitor: `python -m server.monitor STUDY_DIR --port N`: the study as it stands, for the coordinator's own eyes.

A page for people (`/`) and Prometheus metrics (`/metrics`).  Read-only, on loopback, without an account: whoever has an
account on this machine may look, nobody else can; look from afar through an SSH tunnel.  It tells no more than the
server's checkpoint holds about the run: names of sites, counts of bytes, codes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from jinja2 import Environment, StrictUndefined
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.checkpoint import CHECKPOINT, load_checkpoint
from server.provision.study import open_provisioned
from server.state import StudyState
from server.status import in_words, standing

__all__ = ["Monitor", "main"]

METRICS = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STYLE = """body{font:15px system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}table{border-collapse:collapse}
td,th{padding:.25em .8em;border-bottom:1px solid #ccc;text-align:left}td.n{text-align:right}.bad{color:#a00}.good{color:#060}
"""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>{{ study }}: {{ status }}</title><link rel="stylesheet" href="/style.css"></head><body>
<h1>{{ study }}</h1><p id="status">{{ status }}; {{ online }} of {{ sites|length }} sites online.</p>
<ul id="now">{% for line in words %}<li>{{ line }}</li>{% endfor %}{% if not privacy %}<li>no differential privacy</li>{% endif %}</ul>
<table id="sites"><tr><th>site</th><th></th><th>heard</th><th>last exchange</th><th>down MB</th><th>up MB</th><th>refusals</th><th>kit ends in</th></tr>
{% for name, s in sites.items() %}<tr><td>{{ name }}</td><td class="{{ 'good' if s.online else 'bad' }}">{{ 'online' if s.online else 'silent' }}</td>
<td class="n">{{ 'never' if s.heard is none else '%.0f s ago'|format(s.heard) }}</td><td>{{ s.last }}{% if s.code %} ({{ s.code }}){% endif %}</td>
<td class="n">{{ '%.2f'|format(s.down / 1e6) }}</td><td class="n">{{ '%.2f'|format(s.up / 1e6) }}</td>
<td>{% for code, count in s.refusals.items() %}{{ count }} {{ code }}{{ ', ' if not loop.last }}{% else %}none{% endfor %}</td>
<td class="n">{{ s.days }} days{{ ', ' + s.kit if s.kit != 'valid' }}</td></tr>{% endfor %}</table>
<h2>Phases</h2><table id="phases"><tr><th>phase</th><th>exchanges</th><th>seconds</th></tr>
{% for name, p in phases.items() %}<tr><td>{{ name }}</td><td class="n">{{ p.exchanges }}</td><td class="n">{{ '%.1f'|format(p.seconds) }}</td></tr>{% endfor %}</table>
<p>The server's certificate ends in {{ certificate_days }} days.{% if privacy %} What other studies spent on the same cases stands in each site's own ledger.{% endif %}</p>
<p>Read-only; shown anew every 5 s. Research use only, not a medical device.</p></body></html>
"""


class Monitor:
    """One study's page; the checkpoint is read again only when it has changed."""

    def __init__(self, study: Path) -> None:
        self._study = study
        self._stamp = 0
        self._state: StudyState | None = None
        self._page = Environment(autoescape=True, undefined=StrictUndefined).from_string(PAGE)
        self.app = Starlette(
            routes=[Route("/", self._show), Route("/style.css", self._style), Route("/metrics", self._metrics)],
            # A page elsewhere must not read this one under a name of its own that points here.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        )

    def look(self) -> dict[str, Any]:
        """What is shown: the study as it stands, and when kits and certificate end."""
        opened, now, state = open_provisioned(self._study), datetime.now(UTC), self._checkpoint()
        kits = dict(sorted(opened.registry.current().items()))
        seen = standing(self._study, state, tuple(kits))
        for name, kit in kits.items():
            seen["sites"][name] |= {"days": (kit.valid_until - now.date()).days, "kit": kit.state(now.date())}
        return {
            **seen,
            "study": opened.settings.study,
            "online": sum(site["online"] for site in seen["sites"].values()),
            "words": in_words(seen),
            "certificate_days": (opened.server.not_valid_after_utc - now).days,
        }

    def metrics(self) -> bytes:
        """The same for Prometheus."""
        seen, registry = self.look(), CollectorRegistry()

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"fedmidline_{name}", what, labels, registry=registry)

        gauge("sites_online", "Sites heard of within a minute").set(seen["online"])
        gauge("rounds_done", "Finished training rounds").set(seen["rounds_done"])
        gauge("rounds", "Training rounds by the protocol").set(seen["rounds"])
        gauge("finished", "1 once the study has finished").set(seen["status"] == "finished")
        gauge("certificate_days", "Days until the server's certificate ends").set(seen["certificate_days"])
        if seen["phase"]:
            gauge("phase", "1 for that of the last exchange", "phase", "action").labels(
                seen["phase"], seen["action"]
            ).set(1)
        self._metrics_of_the_model(seen["metrics"], gauge)
        if seen["privacy"]:
            epsilon = gauge("privacy_epsilon", "Spent by this study on a case or a site; no bound: +Inf", "of")
            limit = gauge("privacy_epsilon_limit", "What the protocol lets a site spend on a case", "of")
            for what, spent in seen["privacy"].items():
                epsilon.labels(what).set(math.inf if spent["epsilon"] is None else spent["epsilon"])
                if spent["limit"] is not None:
                    limit.labels(what).set(spent["limit"])
        told = {
            "online": gauge("site_online", "1 if heard of within a minute", "site"),
            "days": gauge("site_kit_days", "Days until the site's kit ends", "site"),
        }
        traffic = gauge("site_bytes", "Payload since the beginning", "site", "direction")
        refusals = gauge("site_refusals", "Exchanges in which the site refused or was refused", "site", "code")
        for name, site in seen["sites"].items():
            for what, shown in told.items():
                shown.labels(name).set(site[what])
            for direction in ("down", "up"):
                traffic.labels(name, direction).set(site[direction])
            for code, count in site["refusals"].items():
                refusals.labels(name, code).set(count)
        seconds = gauge("phase_seconds", "Spent in a phase", "phase")
        for name, phase in seen["phases"].items():
            seconds.labels(name).set(phase["seconds"])
        return generate_latest(registry)

    @staticmethod
    def _metrics_of_the_model(metrics: dict[str, Any], gauge: Callable[..., Gauge]) -> None:
        for key, name, what in (
            ("loss", "training_loss", "Of the last round's incoming model"),
            ("validation_loss", "validation_loss", "Of the last round's incoming model, on cases held out"),
            ("dice", "test_dice", "Mean over the test cases of the last evaluation"),
        ):
            if metrics.get(key) is not None:
                gauge(name, what).set(metrics[key])
        if metrics.get("auc"):
            value = gauge("auc", "Of the last evaluation", "set")
            half = gauge("auc_half_width", "The exact AUC lies within so much of fedmidline_auc", "set")
            for name, found in metrics["auc"].items():
                value.labels(name).set(found["value"])
                half.labels(name).set(found["half_width"])

    def _checkpoint(self) -> StudyState | None:
        path = self._study / CHECKPOINT
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        if stamp != self._stamp:
            self._state, self._stamp = load_checkpoint(path) if stamp else None, stamp
        return self._state

    def _show(self, _request: Request) -> Response:
        return Response(self._page.render(self.look()), media_type="text/html", headers=HEADERS)

    def _style(self, _request: Request) -> Response:
        return Response(STYLE, media_type="text/css", headers=HEADERS)

    def _metrics(self, _request: Request) -> Response:
        return Response(self.metrics(), headers={**HEADERS, "Content-Type": METRICS})


def main() -> None:
    """Serve until the signal; `fedmidline-study serve --monitor-port N` starts it."""
    arguments = argparse.ArgumentParser(description="The study's page on loopback.")
    arguments.add_argument("study", type=Path)
    arguments.add_argument("--port", required=True, type=int)
    options = arguments.parse_args()
    uvicorn.run(
        Monitor(options.study).app,
        host="127.0.0.1",
        port=options.port,
        access_log=False,
        server_header=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
