"""light_sites: many hospitals in one process, each with its own key and its own conversation with the server.

python -m benchmarks.peers.light_sites ROOT SITE [SITE ...]

What is left out of a hospital is its own SuperNode and worker, which take 0.7 GB each: Flower's connection is used
without them, and the product's application answers in a thread, one message of all sites at a time.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from cryptography.hazmat.primitives import serialization
from flwr.app import Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_connection import http_request_response

from client.app import app
from client.connection import open_kit

logger = logging.getLogger("light-sites")
one_at_a_time = threading.Lock()


def live(root: Path, site: str) -> None:
    """Answer this site's messages for ever."""
    kit = open_kit(root / "kits" / site, datetime.now(UTC))
    private = serialization.load_ssh_private_key(kit.key.read_bytes(), None)
    keys = (private, private.public_key())
    config = {"site": str(root / site / "site.yaml"), "name": site}
    with http_request_response(kit.settings.server, False, str(kit.authority), keys) as connection:
        node, receive, send, _, _, pull, push, confirm = connection
        while True:
            found = receive()
            if found is None:
                time.sleep(0.2)
                continue
            head, tree = found
            run = head.metadata.run_id
            try:
                message = pull_and_inflate_object_from_tree(
                    tree,
                    lambda identity, run=run: pull(run, identity),
                    lambda identity, run=run: confirm(run, identity),
                    return_type=Message,
                )
                message.metadata.__dict__["_message_id"] = tree.object_id
                begun = time.monotonic()
                with one_at_a_time:
                    TaskIdentity.run_id, TaskIdentity.node_id = run, node
                    reply = app(message, Context(run, node, config, RecordDict(), {}, ""))
                    reply.metadata.__dict__["_message_id"] = reply.object_id
                objects = get_all_nested_objects(reply)
                wanted, session = send(reply, get_object_tree(reply), time.monotonic() - begun)
                push_objects(
                    objects,
                    lambda identity, content, run=run, session=session: push(run, session, identity, content),
                    object_ids_to_push=wanted,
                )
            except RunNotRunningException:
                continue


def main() -> None:
    """All of them, until the process is ended."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    threads = [threading.Thread(target=live, args=(root, site)) for site in sys.argv[2:]]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
