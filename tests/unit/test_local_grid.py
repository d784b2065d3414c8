"""The grid in process."""

from __future__ import annotations

import ast
import gc
import threading
import time

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from simulation.local_grid import LocalGrid


def test_no_more_sites_are_asked_than_can_be_served():
    """A thousand sites' replies do not pile up behind a slow server."""
    app, asked = ClientApp(), []

    @app.query("hello")
    def answer(message: Message, context: Context) -> Message:
        asked.append(context.node_id)
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, [{}] * 50, workers=2)
    messages = [grid.create_message(RecordDict(), "query.hello", node, "") for node in grid.get_node_ids()]
    ahead = [len(asked) - taken for taken, _ in enumerate(grid.send_and_receive(messages))]
    grid.close()

    assert len(ahead) == 50
    assert sorted(asked) == sorted(grid.get_node_ids())
    assert max(ahead) <= 3


class _Slow:
    """Garbage whose end lets other threads run, as a tensor's does."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        time.sleep(3e-4)


def test_sites_that_read_arrays_at_once_do_not_disturb_each_other():
    """Without the grid's care CPython 3.11 raises SystemError in one of them."""
    LocalGrid(ClientApp(), [{"name": "a"}]).close()
    before, failed = gc.get_threshold(), []

    def read(depth):
        if depth:
            return read(depth - 1)
        for _ in range(100):
            _Slow()
            try:
                ast.literal_eval("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 96, 112, 96), }")
            except SystemError as error:
                failed.append(error)
        return None

    gc.set_threshold(10, 1000, 1000)
    try:
        threads = [threading.Thread(target=read, args=(7 * i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)

    assert failed == []
