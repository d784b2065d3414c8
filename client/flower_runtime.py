"""flower_runtime: the site's conversation with its own SuperNode, without a new process for every message.

The only file of the hospital that touches Flower's private interface (1.41 has no public one for an executor of its
own); Flower's version is pinned for its sake.  It does what `flower-superexec` and `flwr-clientapp` do, with one
difference: the application bundle that the server sent is neither unpacked nor imported.  What answers is the
application that the hospital has installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.app import Context, Message
from flwr.common.constant import SubStatus
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

__all__ = ["Executor", "release_session"]

Answer = Callable[[Message, Context], Message]


class Executor:
    """Takes tasks from the SuperNode's runtime interface at `address` on this machine.

    secret: the bytes that only this site's SuperNode and its worker know.
    """

    def __init__(self, address: str, secret: bytes) -> None:
        self._address = address
        auth = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"})
        self._client = self._connect(auth)

    def answer_next(self, answer: Answer) -> bool:
        """Answer one message with `answer`, which must not raise; False when none waits."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        acquired = self._client.AcquireTask(request)
        if not acquired.token:
            return False
        with self._task(acquired.token) as client:
            message, context, _, _ = pull_task_input(client)
            push_message(client, answer(message, context), context)
            push_task_output(client, context, SubStatus.COMPLETED, "")
        return True

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    @contextmanager
    def _task(self, token: str) -> Iterator[RuntimeHttpClient]:
        """A connection for one task, which the SuperNode hears alive meanwhile."""
        client = self._connect(RuntimeTokenHttpInterceptor(token))
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        heartbeat.start()
        try:
            yield client
        finally:
            if heartbeat.is_running:
                heartbeat.stop()
            client.close()

    def _connect(self, auth: object) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=True,  # 127.0.0.1 only; the secret and the task's token guard it
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), auth],
            retry_invoker=make_simple_http_retry_invoker(),
        )


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
