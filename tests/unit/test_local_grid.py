"""The grid in process."""

from __future__ import annotations

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
