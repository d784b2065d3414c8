"""fleet_door: `python -m server.fleet_door STUDY_DIR`: the one address that hospitals reach.

TLS ends here.  Behind it Flower's SuperLink listens on loopback, where its control interface, which knows no
authentication, can be reached by nobody outside.  The door lets through the requests of a SuperNode at work, of a key
that is registered, neither revoked nor expired, and no larger than a chunk; Flower then checks the key's signature.
A SuperNode that asks for work waits at the door instead of sleeping three seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import json
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.deployment.event_log import EventLog
from server.provision.registry import REGISTRY, Registry, load_registry
from server.provision.study import open_provisioned
from server.provision.write import write_file

__all__ = ["Door", "main"]

FLEET = "/v1/fleet/"
ACTIONS = frozenset(
    {
        *("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run"),
        *("get-fab", "push-object", "pull-object", "confirm-message-received"),
    }
)
"""Not register-node and unregister-node: keys are registered by the coordinator."""
LARGEST_BODY = 16 * 2**20
"""Flower sends arrays in chunks of 5 MiB."""
KEY = "flwr-public-key"
FORWARDED = ("content-type", "accept", "user-agent")
HOLD_S = 12.0
"""A SuperNode's patience is 30 s, and its signature is good for 300."""
FASTEST_POLL_S, IDLE_POLL_S, POLLS_PER_S = 0.25, 1.0, 20.0
AT_ONCE = 8
"""Requests at the SuperLink.  Its database lets one write at a time and gives up on one that waits for five seconds; with
seventy hospitals that wrote together a 500 came.
"""
BUSY_S = 60.0
"""A site that had work so lately is likely to have more; between studies nobody is in a hurry."""
SEEN_EVERY_S = 2.0


class Door:
    """One study's door.

    upstream: an HTTP client whose base address is the SuperLink.
    seen: site -> seconds since 1970 of its last request; written to state/seen.json for `status`.
    """

    def __init__(self, study: Path, upstream: httpx.AsyncClient, tell: EventLog) -> None:
        self._study = study
        self._upstream = upstream
        self._tell = tell
        self._registry = Registry()
        self._stamp = 0
        self._waiting = 0
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._refused: set[bytes] = set()
        self._worked: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.app = Starlette(
            routes=[
                Route("/v1/site/hello", self._hello, methods=["GET"]),
                Route(FLEET + "{action}", self._fleet, methods=["POST"]),
            ]
        )

    async def _hello(self, request: Request) -> Response:
        """Does the study admit this key?"""
        site, refusal = self._who(request)
        return JSONResponse({"code": refusal}, 401) if refusal else JSONResponse({"site": site})

    async def _fleet(self, request: Request) -> Response:
        """One request of a SuperNode, passed on."""
        site, refusal = self._who(request)
        if refusal:
            return JSONResponse({"code": refusal}, 401)
        action = request.path_params["action"]
        if action not in ACTIONS:
            return JSONResponse({"code": "not-for-hospitals"}, 403)
        body = await _read(request)
        if body is None:
            self._tell("too-large", site=site, action=action)
            return JSONResponse({"code": "too-large"}, 413)
        self.seen[site] = time.time()
        if action != "pull-messages":
            return await self._pass_on(request, body)
        self._waiting += 1
        try:
            return await self._hold(request, body, site)
        finally:
            self._waiting -= 1

    async def _hold(self, request: Request, body: bytes, site: str) -> Response:
        """Ask again and again until there is work; an empty answer is an empty protobuf message."""
        end = time.monotonic() + HOLD_S
        while True:
            answer = await self._pass_on(request, body)
            now = time.monotonic()
            if answer.body:
                self._worked[site] = now
            if answer.status_code != 200 or answer.body or now > end:
                return answer
            # All sites together share a fixed number of looks per second, so that 70 do not press the database.
            pause = FASTEST_POLL_S if now - self._worked.get(site, now - BUSY_S) < BUSY_S else IDLE_POLL_S
            await asyncio.sleep(max(pause, self._waiting / POLLS_PER_S))
            if await request.is_disconnected():
                return answer  # whoever took a message now would take it to the grave

    async def _pass_on(self, request: Request, body: bytes) -> Response:
        headers = {k: v for k, v in request.headers.items() if k in FORWARDED or k.startswith("flwr-")}
        # 503 makes a SuperNode try again, after anything else it ends.
        try:
            async with self._at_once:
                answer = await self._upstream.post(request.url.path, content=body, headers=headers)
        except httpx.TransportError:
            return JSONResponse({"code": "server-starting"}, 503)  # the keeper is starting the SuperLink anew
        if answer.status_code >= 500:
            action = request.path_params["action"]
            self._tell("superlink-failed", action=action, status=answer.status_code)
            return JSONResponse({"code": "superlink-failed"}, 503)
        kept = {k: v for k, v in answer.headers.items() if k == "content-type" or k.startswith("flwr-")}
        return Response(answer.content, answer.status_code, kept)

    def _who(self, request: Request) -> tuple[str, str]:
        """The site whose key this is, or why it is not admitted."""
        self._reread()
        try:
            key = base64.b64decode(request.headers.get(KEY, ""), validate=True)
        except (binascii.Error, ValueError):
            return "", "key-unknown"
        today = datetime.now(UTC).date()
        admitted = self._registry.admitted(today)
        if key in admitted:
            return admitted[key], ""
        states = {i.key_bytes(): i.state(today) for i in self._registry.invitations}
        reason = f"key-{states.get(key, 'unknown')}"
        if key not in self._refused and len(self._refused) < 10_000:
            self._refused.add(key)
            self._tell("refused", reason=reason)
        return "", reason

    def _reread(self) -> None:
        """A revocation holds from the next request on."""
        stamp = (self._study / REGISTRY).stat().st_mtime_ns
        if stamp != self._stamp:
            self._registry, self._stamp = load_registry(self._study), stamp
            self._refused.clear()


async def _read(request: Request) -> bytes | None:
    """The body; None as soon as it is too large."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > LARGEST_BODY:
                return None
            parts.append(part)
    except ClientDisconnect:
        return None
    return b"".join(parts)


async def _serve(study: Path) -> None:
    opened = open_provisioned(study)
    settings, state = opened.settings, study / "state"
    trust = ssl.create_default_context(cafile=str(opened.pki / "ca.crt"))
    upstream = httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{settings.superlink_port}",
        verify=trust,
        timeout=60,
        limits=httpx.Limits(max_connections=200),
        trust_env=False,
    )
    door = Door(study, upstream, EventLog(state / "door.jsonl", echo=False))
    server = uvicorn.Server(
        uvicorn.Config(
            door.app,
            host=settings.listen,
            port=settings.port,
            ssl_certfile=opened.pki / "server.crt",
            ssl_keyfile=str(opened.pki / "server.key"),
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            log_level="warning",
        )
    )
    async with upstream:
        writer = asyncio.create_task(_write_seen(door, state / "seen.json"))
        await server.serve()
        writer.cancel()


async def _write_seen(door: Door, path: Path) -> None:
    while True:
        write_file(path, json.dumps(door.seen).encode())
        await asyncio.sleep(SEEN_EVERY_S)


def main() -> None:
    """Serve until the signal."""
    arguments = argparse.ArgumentParser(description="The study's door; `fedmidline-study serve` starts it.")
    arguments.add_argument("study", type=Path)
    asyncio.run(_serve(arguments.parse_args().study))


if __name__ == "__main__":
    main()
