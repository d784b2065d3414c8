"""monitor: `python -m server.monitor STUDY_DIR --port N`: the study as it stands, for the coordinator's own eyes.

A page for people (`/`) and Prometheus metrics (`/metrics`).  Read-only, on loopback, without an account: whoever has an
account on this machine may look, nobody else can; look from afar through an SSH tunnel.  It tells no more than the
server's checkpoint holds about the run: names of sites, counts of bytes, codes.
"""

from __future__ import annotations

import argparse
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
from server.deployment import read_outcome
from server.provision.study import open_provisioned
from server.state import StudyState
from server.status import heard_s_ago

__all__ = ["Monitor", "main"]

ONLINE_S = 60.0
"""A SuperNode asks for work at least every twelve seconds."""
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
<h1>{{ study }}</h1><p id="status">{{ status }}; {{ phase or 'no exchange yet' }}; round {{ rounds_done }} of {{ rounds }}
{%- if loss is not none %}; training loss {{ '%.4f'|format(loss) }}{% endif %}.</p>
<table id="sites"><tr><th>site</th><th></th><th>heard</th><th>last exchange</th><th>down MB</th><th>up MB</th><th>refusals</th><th>kit ends in</th></tr>
{% for name, s in sites.items() %}<tr><td>{{ name }}</td><td class="{{ 'good' if s.online else 'bad' }}">{{ 'online' if s.online else 'silent' }}</td>
<td class="n">{{ 'never' if s.heard is none else '%.0f s ago'|format(s.heard) }}</td><td>{{ s.last }}{% if s.code %} ({{ s.code }}){% endif %}</td>
<td class="n">{{ '%.2f'|format(s.down / 1e6) }}</td><td class="n">{{ '%.2f'|format(s.up / 1e6) }}</td><td class="n">{{ s.refusals }}</td>
<td class="n">{{ s.days }} days{{ ', ' + s.kit if s.kit != 'valid' }}</td></tr>{% endfor %}</table>
<h2>Phases</h2><table id="phases"><tr><th>phase</th><th>exchanges</th><th>seconds</th></tr>
{% for name, p in phases.items() %}<tr><td>{{ name }}</td><td class="n">{{ p.exchanges }}</td><td class="n">{{ '%.1f'|format(p.seconds) }}</td></tr>{% endfor %}</table>
<p>The server's certificate ends in {{ certificate_days }} days. {% if privacy %}Privacy: epsilon {{ '%.2f'|format(privacy.epsilon) }}{% if privacy.limit is not none %} of {{ '%g'|format(privacy.limit) }}{% endif %} spent on a case by this study (delta {{ '%g'|format(privacy.delta) }}); what others spent stands in each site's own ledger.{% else %}This study has no differential privacy.{% endif %}</p>
<p>Read-only; shown anew every 5 s. Research use only, not a medical device.</p></body></html>
"""


class Monitor:
    """One study's page; the checkpoint is read again only when it has changed."""

    def __init__(self, study: Path) -> None:
        self._study = study
        self._stamp = 0
        self._state: StudyState | None = None
        self._epsilon: dict[tuple[int, bool], float] = {}
        self._page = Environment(autoescape=True, undefined=StrictUndefined).from_string(PAGE)
        self.app = Starlette(
            routes=[Route("/", self._show), Route("/style.css", self._style), Route("/metrics", self._metrics)],
            # A page elsewhere must not read this one under a name of its own that points here.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        )

    def look(self) -> dict[str, Any]:
        """What is shown."""
        opened, now, state = open_provisioned(self._study), datetime.now(UTC), self._checkpoint()
        heard, exchanges = heard_s_ago(self._study), () if state is None else state.exchanges
        sites = {}
        for name, kit in sorted(opened.registry.current().items()):
            mine = [e for e in exchanges if name in e.roster]
            sites[name] = {
                "heard": heard.get(name),
                "online": heard.get(name, ONLINE_S) < ONLINE_S,
                "last": mine[-1].roster[name] if mine else "",
                "code": mine[-1].codes.get(name, "") if mine else "",
                "down": sum(e.bytes_down.get(name, 0) for e in mine),
                "up": sum(e.bytes_up.get(name, 0) for e in mine),
                "refusals": sum(e.roster[name] == "refused" for e in mine),
                "days": (kit.valid_until - now.date()).days,
                "kit": kit.state(now.date()),
            }
        phases: dict[str, dict[str, float]] = {}
        for e in exchanges:
            phase = phases.setdefault(e.phase, {"exchanges": 0, "seconds": 0.0})
            phase["exchanges"], phase["seconds"] = phase["exchanges"] + 1, phase["seconds"] + e.seconds
        outcome, losses = read_outcome(self._study), [e.loss for e in exchanges if e.loss is not None]
        return {
            "study": opened.settings.study,
            "status": outcome["code"] if outcome else "under way" if exchanges else "waiting for the first exchange",
            "phase": f"{exchanges[-1].phase} ({exchanges[-1].action})" if exchanges else "",
            "rounds_done": state.rounds_done if state else 0,
            "rounds": state.rounds if state else 0,
            "loss": losses[-1] if losses else None,
            "sites": sites,
            "phases": phases,
            "certificate_days": (opened.server.not_valid_after_utc - now).days,
            "privacy": self._spent(state),
        }

    def metrics(self) -> bytes:
        """The same for Prometheus."""
        seen, registry = self.look(), CollectorRegistry()

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"fedmidline_{name}", what, labels, registry=registry)

        gauge("rounds_done", "Finished training rounds").set(seen["rounds_done"])
        gauge("finished", "1 once the study has finished").set(seen["status"] == "finished")
        gauge("certificate_days", "Days until the server's certificate ends").set(seen["certificate_days"])
        if seen["loss"] is not None:
            gauge("training_loss", "Of the last round's incoming model").set(seen["loss"])
        if seen["privacy"] is not None:
            gauge("privacy_epsilon", "Spent on a case by this study").set(seen["privacy"]["epsilon"])
        told = {
            "online": gauge("site_online", "1 if heard of within a minute", "site"),
            "refusals": gauge("site_refusals", "Exchanges in which the site refused or was refused", "site"),
            "days": gauge("site_kit_days", "Days until the site's kit ends", "site"),
        }
        traffic = gauge("site_bytes", "Payload since the beginning", "site", "direction")
        for name, site in seen["sites"].items():
            for what, shown in told.items():
                shown.labels(name).set(site[what])
            for direction in ("down", "up"):
                traffic.labels(name, direction).set(site[direction])
        seconds = gauge("phase_seconds", "Spent in a phase", "phase")
        for name, phase in seen["phases"].items():
            seconds.labels(name).set(phase["seconds"])
        return generate_latest(registry)

    def _spent(self, state: StudyState | None) -> dict[str, Any] | None:
        """Epsilon of the finished rounds and of private statistics, record level; None where the protocol has none."""
        settings = None if state is None else state.protocol.privacy.record_level
        if state is None or settings is None:
            return None
        key = (state.rounds_done, state.moments is None)
        if key not in self._epsilon:
            from common.privacy.accounting import epsilon_of  # Opacus brings torch, which most studies do not need here

            events = [settings.event(state.protocol.training, state.rounds_done)] if state.rounds_done else []
            if settings.statistics is not None and state.moments is not None and state.origin is None:
                events.append(settings.statistics.event())
            self._epsilon = {key: epsilon_of(events, settings.delta, "rdp")}
        return {
            "epsilon": self._epsilon[key],
            "delta": settings.delta,
            "limit": state.protocol.privacy.epsilon_limit,
        }

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
