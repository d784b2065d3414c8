"""What can be said of the containers without an engine; `make docker-test` builds, runs and attacks them."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest
import yaml

from client.gateway import open_gateway

ROOT = Path(__file__).parents[2]
COMPOSE = ("docker/compose.yaml", "docker/compose.server.yaml", "docker/compose.site.yaml")


SERVICES = [
    pytest.param(service, id=f"{path}:{name}")
    for path in COMPOSE
    for name, service in yaml.safe_load((ROOT / path).read_text())["services"].items()
]


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_confined(service):
    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["stop_grace_period"] == "30s"
    assert service["logging"]["options"] == {"max-size": "20m", "max-file": "2"}, "no log grows for ever"
    assert service["pids_limit"] > 0
    assert service["mem_limit"] == service["memswap_limit"], "no swap"
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_site_only_reads_is_mounted_so(service):
    for volume in service.get("volumes", []):
        assert volume.endswith((":/kit:ro", ":/data:ro", ":/site", ":/studies"))


def test_on_one_host_no_two_sites_share_a_network():
    composed = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    sites = {name: s["networks"] for name, s in composed["services"].items() if name != "server"}

    assert all(network["internal"] is True for network in composed["networks"].values())
    assert sites == {name: [name] for name in sites}
    assert sorted(composed["services"]["server"]["networks"]) == sorted(sites)


def test_a_hospitals_site_has_no_network_but_the_gateways():
    composed = yaml.safe_load((ROOT / "docker/compose.site.yaml").read_text())

    assert composed["networks"]["inside"] == {"internal": True}
    assert composed["services"]["site"]["networks"] == ["inside"]
    assert "volumes" not in composed["services"]["gateway"]


def test_the_images_take_the_version_of_the_package():
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert f'image.version="{version}"' in dockerfile
    assert all(f"FEDMIDLINE_VERSION:-{version}}}" in (ROOT / path).read_text() for path in COMPOSE)


async def _through_gateway(send: bytes, *, there: bool) -> bytes:
    """What a client reads after `send` through a gateway to a server that answers in capitals, or to nobody."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(len(send))).upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if not there:
        server.close()
        await server.wait_closed()
    gateway = await open_gateway("127.0.0.1", port, listen="127.0.0.1", listen_port=0)
    async with server, gateway:
        reader, writer = await asyncio.open_connection(*gateway.sockets[0].getsockname())
        try:
            writer.write(send)
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()


def test_the_gateway_carries_bytes_both_ways():
    payload = b"abc" * 300_000

    assert asyncio.run(_through_gateway(payload, there=True)) == payload.upper()


def test_the_gateway_resets_a_connection_that_the_server_does_not_take(capsys):
    with pytest.raises(ConnectionResetError):
        asyncio.run(_through_gateway(b"abc", there=False))
    assert "server-unreachable" in capsys.readouterr().err
