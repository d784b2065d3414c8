"""probes: what is run by Python inside a container, in its own process, to see what a thief there would see."""

from __future__ import annotations

__all__ = ["CONFINED", "FOREIGN", "HALT", "PLAIN", "REACH"]

CONFINED = """
import json, os
def fails(path):
    try: open(path, "w").close(); os.unlink(path)
    except OSError as error: return error.strerror
    return ""
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
limits = ["/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"]
print(json.dumps({
    "uid": os.getuid(), "capabilities": [status[k].strip() for k in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privs": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "writes": {p: fails(p + "/x") for p in ("/", "/app", "/usr/local/bin", "/etc", "/kit", "/data") if os.path.isdir(p)},
    "data": sorted(os.listdir("/data")) if os.path.isdir("/data") else [],
    "memory": next((open(p).read().strip() for p in limits if os.path.exists(p)), ""),
    "socket": os.path.exists("/var/run/docker.sock"),
}))
"""
REACH = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def tries(target):
    host, port = target.rsplit(":", 1)
    try: socket.create_connection((host, int(port)), timeout=4).close()
    except OSError as error: return type(error).__name__
    return "open"
def asks(server):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(b"direct" + sys.argv[1].encode(), (server, 53))
    except OSError as error: return type(error).__name__
    return "sent"
def looks_up(name):
    try: socket.getaddrinfo(name, 80)
    except OSError as error: return type(error).__name__
    return "resolved"
with ThreadPoolExecutor() as pool:
    name, targets = pool.submit(looks_up, sys.argv[1] + ".example.org"), sys.argv[3:]
    found = dict(zip(targets, pool.map(tries, targets)))
print(json.dumps({**found, "udp": asks(sys.argv[2]), "name": name.result()}))
"""
HALT = """
import os, signal, sys
for entry in os.listdir("/proc"):
    try: words = open(f"/proc/{entry}/cmdline").read() if entry.isdigit() else ""
    except OSError: continue
    if "client.worker" in words and int(entry) != os.getpid(): os.kill(int(entry), getattr(signal, sys.argv[1]))
"""
PLAIN = """
import socket
with socket.create_connection(("server", 8443), timeout=10) as plain:
    plain.sendall(b"GET /v1/site/hello HTTP/1.1\\r\\nHost: server\\r\\n\\r\\n")
    print("answered" if b"200" in plain.recv(1000) else "silent")
"""
FOREIGN = """
import os
names = {"pip.conf", ".netrc", ".pypirc", ".npmrc", "id_rsa", "site.key", "ca.key", "Dockerfile", ".git"}
found = [os.path.join(at, n) for at, folders, files in os.walk("/") if not at.startswith(("/proc", "/sys"))
         for n in files + folders if n in names or n.endswith(".whl") and "ensurepip" not in at and "python-wheels" not in at]
found += [name for name in os.environ if name.startswith("PIP_") or "proxy" in name.lower()]
print("\\n".join(found))
"""
