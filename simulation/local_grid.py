"""local_grid: an in-process Flower Grid: no Ray, no SuperLink, no sockets, the same apps.

The only file that touches Flower's private interface (TaskIdentity, which 1.41 needs to build a Message);
Flower's version is pinned for its sake.  Messages are deep-copied on their way in, because one RecordDict
may go to several sites.
"""

from __future__ import annotations

import ast
import copy
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache, wraps
from itertools import islice
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["LocalGrid"]


class LocalGrid(Grid):
    """Virtual sites in threads of this process.

    node_configs: one per site, as a SuperNode would get it.
    lose: tells which messages never arrive; a test's way to break a site.
    """

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: list[dict[str, Any]],
        *,
        workers: int = 2,
        lose: Callable[[Message], bool] = lambda _: False,
    ) -> None:
        _parse_one_at_a_time()
        self._app = client_app
        self._lose = lose
        self._run = Run.create_empty(run_id=1)
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
        self._contexts = {
            100 + i: Context(run_id=1, node_id=100 + i, node_config=dict(c), state=RecordDict(), run_config={})
            for i, c in enumerate(node_configs)
        }
        self._workers = workers
        self._pool = ThreadPoolExecutor(max_workers=workers)
        self._waiting: dict[str, Future[Message | None]] = {}

    def set_run(self, run: Run) -> None:
        """Keep Flower's description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """As Flower's own grids do."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All virtual sites are always online."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The same as Flower's NodeInfo."""
        return [NodeInfo(node_id=node) for node in self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Start each message's work; returns the messages' ids."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = identity = uuid.uuid4().hex
            self._waiting[identity] = self._pool.submit(self._deliver, message)
            ids.append(identity)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there by now."""
        done = [i for i in message_ids if i in self._waiting and self._waiting[i].done()]
        replies = [self._waiting.pop(i).result() for i in done]
        return [reply for reply in replies if reply is not None]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Replies as they come, until all are in or the time is up.

        No more sites are asked than work at a time, and whoever takes the replies sets the pace: of a thousand sites'
        replies a handful lie in memory.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pending, out = iter(messages), set[str]()
        while end is None or time.monotonic() < end:
            out.update(self.push_messages(islice(pending, self._workers + 1 - len(out))))
            if not out:
                return
            left = None if end is None else max(0.0, end - time.monotonic())
            wait([self._waiting[i] for i in out], timeout=left, return_when=FIRST_COMPLETED)
            yield from self.pull_messages(out)
            out &= self._waiting.keys()

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(cancel_futures=True)

    def _deliver(self, message: Message) -> Message | None:
        """What a SuperNode does: run the app; an exception becomes Flower's error reply."""
        if self._lose(message):
            return None
        inbound = copy.deepcopy(message)
        try:
            return self._app(inbound, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001  # as Flower's run_clientapp does, text and all
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=inbound)


@cache
def _parse_one_at_a_time() -> None:
    """CPython 3.11 counts the depth of a syntax tree per interpreter, not per thread, and numpy parses the header of
    every array that it reads: of two sites that read at once one may end with `SystemError: AST constructor recursion
    depth mismatch`.  Once per process, for all threads.
    """
    parse, lock = ast.parse, threading.RLock()

    @wraps(parse)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return parse(*args, **kwargs)

    ast.parse = alone
