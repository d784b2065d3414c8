"""hospitals: three hospitals of one size, everybody else, and what the server reads of their first round."""

from __future__ import annotations

from dataclasses import dataclass

from client.store.cohort import TrainingCases
from common.config.protocol import Protocol
from common.messages.model import ModelState
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.visual_moments import moments_digest
from common.seeds import stream
from simulation.attacks.material import Material, attacked_protocol, start_model, take
from simulation.attacks.server_view import site_update, sum_securely

__all__ = ["FIRST", "Hospitals", "three_hospitals"]

SITES = 3
FIRST = "site-0"


@dataclass(frozen=True)
class Hospitals:
    """sites: of one size; others: persons who are in none of them."""

    sites: dict[str, TrainingCases]
    others: TrainingCases
    model: ModelState
    protocol: Protocol

    @property
    def cases(self) -> int:
        """Of one hospital."""
        return len(self.sites[FIRST].table)

    def reply(self, name: str = FIRST, encoding: str = "float32", private: Protocol | None = None) -> TrainRoundReply:
        """The update of one hospital; private: the same training with differential privacy."""
        protocol = private or self.protocol
        training = protocol.training.model_copy(update={"encoding": encoding})
        return site_update(self.sites[name], self.model, protocol.model_copy(update={"training": training}), site=name)

    def summed(self) -> TrainRoundReply:
        """All that the server reads of the hospitals under secure aggregation."""
        request = TrainRoundRequest(
            fingerprint=self.protocol.fingerprint(),
            study="attacked",
            round=1,
            model=self.model,
            moments=moments_digest(self.model),
        )
        total = sum_securely({name: self.reply(name) for name in self.sites}, request).total
        if not isinstance(total, TrainRoundReply):
            raise TypeError("the sum of training rounds")
        return total


def three_hospitals(material: Material, cases: int, epochs: int, seed: int, *, small: bool = False) -> Hospitals:
    """Drawn anew for every seed; the model's moments are everybody's; small: with the small head's features."""
    protocol = attacked_protocol(epochs=epochs)
    order = stream(seed, "inversion", cases, epochs).permutation(len(material))
    everyone = take(material, order, small=small)
    parts = {f"site-{i}": take(material, order[cases * i : cases * (i + 1)], small=small) for i in range(SITES)}
    others = take(material, order[cases * SITES :], small=small)
    return Hospitals(parts, others, start_model(everyone, protocol), protocol)
