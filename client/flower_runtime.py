"""flower_runtime: the site's conversation with its own SuperNode, without a new process for every message.

The only file of the hospital that touches Flower's private interface (1.41 has no public one for an executor of its
own); Flower's version is pinned for its sake.  It does what `flower-superexec` and `flwr-clientapp` do, with one
difference: the application bundle that the server sent is neither unpacked nor imported.  What answers is the
application that the hospital has installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from logging import getLogger
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.app import Context, Message
from flwr.common.constant import SubStatus
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

__all__ = ["Executor", "release_session"]

logger = getLogger("fedmidline.site")

Answer = Callable[[Message, Context], Message]


class Executor:
    """Takes tasks from the SuperNode's runtime interface at `address` on this machine.

    secret: the bytes that only this site's SuperNode and its worker know.
    answer: makes the reply; it must not raise.

    Each task waits for its message in a thread of its own, because Flower leaves behind tasks whose message never
    comes (of a run that was stopped in between); answering itself is strictly one after the other.
    """

    def __init__(self, address: str, secret: bytes, answer: Answer) -> None:
        self._address = address
        self._answer = answer
        self._one_at_a_time = threading.Lock()
        auth = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"})
        self._client = self._connect(auth)

    def take_next(self) -> bool:
        """Begin the next task; False when none waits, or the SuperNode does not answer yet."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        try:
            acquired = self._client.AcquireTask(request)
        except httpx.TransportError:
            return False
        if not acquired.token:
            return False
        threading.Thread(target=self._work, args=(acquired.token,), daemon=True).start()
        return True

    def _work(self, token: str) -> None:
        """One task from its message to its reply; a task that Flower has given up ends without a word."""
        client = self._connect(RuntimeTokenHttpInterceptor(token))
        heartbeat = HeartbeatSender(lambda: _beat(client))
        heartbeat.start()
        try:
            message, context, run, _ = pull_task_input(client)
            with self._one_at_a_time:
                # Flower reads the identity of a reply from here; another task may have written its own meanwhile.
                TaskIdentity.run_id, TaskIdentity.node_id = run.run_id, context.node_id
                reply = self._answer(message, context)
                push_message(client, reply, context)
            push_task_output(client, context, SubStatus.COMPLETED, "")
        except (httpx.HTTPError, RunNotRunningException, ObjectPullError, RuntimeError):
            logger.warning("a task ended without a reply: its run is over, or the SuperNode is gone")
        finally:
            heartbeat.stop()
            client.close()

    def _connect(self, auth: object) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=True,  # 127.0.0.1 only; the secret and the task's token guard it
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), auth],
        )


def _beat(client: RuntimeHttpClient) -> bool:
    """Tell the SuperNode that the task is alive.  Flower's own function kills the process when the task is not."""
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except (httpx.TransportError, httpx.HTTPStatusError):
        return False
    return True


def release_session(server: str, authority: Path, key: Path, node: int) -> bool:
    """Tell the server that this site's last SuperNode is gone; False when the server did not hear it.

    Without this Flower refuses the site for about a minute after a crash, and the round does not learn of it.
    """
    private = serialization.load_ssh_private_key(key.read_bytes(), None)
    auth = NodeAuthHttpInterceptor(private, private.public_key())
    try:
        with FleetHttpClient.from_server_address(
            server, False, str(authority), interceptors=[RuntimeVersionHttpInterceptor("SuperNode"), auth]
        ) as client:
            client.DeactivateNode(DeactivateNodeRequest(node_id=node))
    except (httpx.HTTPError, RuntimeError):
        return False
    return True
