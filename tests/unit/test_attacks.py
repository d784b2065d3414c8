"""Attacks: each succeeds against the unprotected study, so that it is real, and fails against what protects."""

from __future__ import annotations

import json

import numpy as np
import pytest

from client.training.standardised import StandardisedMaps
from common.errors import InputError
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.visual_moments import moments_digest
from common.privacy.fixed_point import WEIGHTS, decode
from server.reporting.report import PAGES
from simulation.attacks.differencing import attack_differences, recovered
from simulation.attacks.gradient_inversion import attack_gradients, guess_cases, resemblance
from simulation.attacks.material import attacked_protocol, draw_material, material_of_replay, start_model, take
from simulation.attacks.membership import Shadows, likelihood_ratio, loss_threshold, membership_figures, train_shadows
from simulation.attacks.outcome import Attack, Measured, Outcome
from simulation.attacks.run_attacks import write_attack_report
from simulation.attacks.server_view import admitted, site_update, sum_securely
from simulation.attacks.table_reconstruction import attack_tables, singled_out, status_told
from simulation.attacks.update_membership import attack_update_membership


@pytest.fixture(scope="module")
def material():
    return draw_material(3, cases=90, places=2, channels=256)


@pytest.fixture(scope="module")
def whole(material):
    """The moments that a study would send with its model."""
    return start_model(take(material, np.arange(len(material)), small=False), attacked_protocol())


def update(material, whole, persons, *, epochs=1, encoding="float32", site="site-0"):
    """(reply, cases, guesses) of a hospital with these persons."""
    protocol = attacked_protocol(epochs=epochs)
    training = protocol.training.model_copy(update={"encoding": encoding})
    cases = take(material, np.array(persons), small=False)
    reply = site_update(cases, whole, protocol.model_copy(update={"training": training}), site=site)
    return reply, cases, guess_cases(reply, whole, training, steps=training.steps(len(persons)))


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_single_case_is_read_to_the_last_digits(material, whole, epochs):
    _, cases, guesses = update(material, whole, [7], epochs=epochs)

    true = StandardisedMaps.under(whole, cases.visual, device="cpu").whole().double().numpy()[0]
    best = min(np.linalg.norm(guess - true) for guess in guesses) / np.linalg.norm(true)
    assert best < 1e-4


def test_eight_bits_a_number_hide_nothing(material, whole):
    _, cases, guesses = update(material, whole, [7], encoding="low_rank_int8")

    assert resemblance(guesses, cases, whole).max() > 0.99


def test_two_cases_are_told_apart_and_strangers_are_not_found(material, whole):
    _, cases, guesses = update(material, whole, [7, 8])

    assert resemblance(guesses, cases, whole).min() > 0.9
    assert resemblance(guesses, take(material, np.arange(20, 40), small=False), whole).max() < 0.5


def test_without_a_guess_nothing_is_found(material, whole):
    cases = take(material, np.array([1, 2]), small=False)

    assert (resemblance(np.zeros((0, cases.visual.length)), cases, whole) == 0).all()


def test_the_door_keeps_a_small_update_in(material, whole):
    few, _, _ = update(material, whole, [7, 8])
    many, _, _ = update(material, whole, range(12))

    assert admitted("train_round", few) == "egress-few-cases"
    assert isinstance(admitted("train_round", many), TrainRoundReply)


def test_the_masked_update_is_noise_and_the_sum_is_the_mean(material, whole):
    parts = {f"site-{i}": update(material, whole, range(12 * i, 12 * i + 12), site=f"site-{i}") for i in range(3)}
    replies = {name: part[0] for name, part in parts.items()}
    request = TrainRoundRequest(fingerprint="f", study="attacked", round=1, model=whole, moments=moments_digest(whole))

    seen = sum_securely(replies, request)

    mean = np.mean([reply.update.parts["visual.weight"] for reply in replies.values()], axis=0)
    np.testing.assert_allclose(seen.total.update.parts["visual.weight"], mean, atol=1e-9)
    numbers = seen.masked["site-0"]["update:visual.weight"]
    noise = decode(numbers, WEIGHTS).reshape(mean.shape)
    assert resemblance(noise, parts["site-0"][1], whole).max() < 0.3


def test_inversion_says_who_is_protected_by_what(material):
    found = attack_gradients(material, seed=1, sizes=(1, 12), epochs=(1,))

    verdicts = {(o.setting, o.protection): o.verdict for o in found.outcomes}
    assert verdicts["1 case, 1 epoch", "low_rank_int8"] == "not defended"
    assert verdicts["1 case, 1 epoch", "the door"] == "defended"
    assert verdicts["1 case, 1 epoch", "secure sums"] == "defended"
    assert verdicts["12 cases, 1 epoch", "secure sums"] == "not defended"
    assert verdicts["small head, 12 cases, 1 epoch", "differential privacy"] == "defended"
    assert not found.failed


def test_membership_is_seen_in_an_overfitted_model(material):
    plain = train_shadows(material, attacked_protocol(rounds=6, rate=0.5), models=8, seed=1)
    for attack in (loss_threshold, likelihood_ratio):
        auc, found = membership_figures(attack(plain), plain.member, seed=1)
        assert auc.low > 0.6
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_membership_is_not_seen_under_differential_privacy(material):
    private = train_shadows(material, attacked_protocol(rounds=2, epsilon=4.0), models=6, seed=1)

    for attack in (loss_threshold, likelihood_ratio):
        auc, _ = membership_figures(attack(private), private.member, seed=1)
        assert auc.value < 0.65


def test_membership_in_one_round(material):
    found = {o.protection: o for o in attack_update_membership(material, seed=1, cases=20, epochs=1).outcomes}

    assert found["the door"].unprotected.low > 0.8
    assert found["secure sums"].verdict == "not defended"
    assert found["differential privacy"].verdict == "defended"


def test_an_attack_on_noise_can_be_made_again(material):
    """With other noise every time one verdict in twenty would be chance."""
    first, second = (attack_update_membership(material, seed=1, cases=20, epochs=1) for _ in range(2))

    assert first == second


def test_the_likelihood_ratio_of_known_normals():
    """Members two units more confident: Phi(2 / sqrt 2); no difference: one half."""
    rng = np.random.default_rng(1)
    member = rng.random((60, 200)) < 0.5
    for shift, expected in ((2.0, 0.921), (0.0, 0.5)):
        shadows = Shadows(rng.standard_normal((60, 200)) + 5 * rng.standard_normal(200) + shift * member, member)
        auc, _ = membership_figures(likelihood_ratio(shadows), member, seed=1)
        assert auc.value == pytest.approx(expected, abs=0.02)
        assert membership_figures(loss_threshold(shadows), member, seed=1)[0].value < 0.65


def test_tables_by_hand():
    """Two features, two bins: who is alone, and whose status follows."""
    table = draw_material(1, cases=60, places=1, channels=2).radiomics.columns(
        draw_material(1, cases=60, places=1, channels=2).radiomics.names[:2]
    )
    table = type(table)(
        table.names, np.array([[0.0, 0], [0, 1], [1, 1], [1, 1]]), np.array([True, False, False, False])
    )
    counts = np.array([[[1, 1], [2, 0]], [[0, 1], [3, 0]]])
    edges = np.array([[0.5], [0.5]])

    assert status_told(counts, table, edges) == 1.0
    assert singled_out(counts, table, edges) == 0.5


def test_tables_tell_without_a_door_and_not_behind_it(material):
    found = attack_tables(material, seed=1, settings=((30, 5),))

    assert {o.verdict for o in found.outcomes if o.protection == "the door"} == {"defended"}
    assert all(o.unprotected.value > 0.1 for o in found.outcomes)


def test_differences_of_two_sums(material):
    found = attack_differences(material, seed=1)

    verdicts = {(o.setting, o.protection): o.verdict for o in found.outcomes}
    assert verdicts["one of 3 sites is lost", "secure sums"] == "defended"
    assert verdicts["one of 4 sites is lost", "secure sums"] == "not defended"
    assert verdicts["a study again without one case", "secure sums"] == "not defended"
    again = [o for o in found.outcomes if o.setting.startswith("a study again")]
    assert all(o.unprotected.value > 0.99 for o in again)


def test_a_feature_is_read_when_it_is_close():
    assert recovered(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.005, 4.0]), np.ones(3)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("clear", "protected", "claimed", "verdict"),
    [
        (0.9, 0.1, True, "defended"),
        (0.9, 0.5, True, "FAILED"),
        (0.9, 0.6, False, "not defended"),
        (0.9, 0.1, False, "no harm here"),
        (0.1, 0.1, True, "shows nothing"),
        (0.1, 0.7, True, "FAILED"),
    ],
)
def test_verdicts(clear, protected, claimed, verdict):
    outcome = Outcome("s", "m", Measured(clear), "p", Measured(protected), 0.0, 0.5, claimed=claimed)

    assert outcome.verdict == verdict
    assert bool(Attack("n", "t", "q", "k", "s", (outcome,), "r").failed) == (verdict == "FAILED")


def test_the_report_holds_every_outcome_and_nothing_from_outside(tmp_path):
    outcome = Outcome("s", "m", Measured(0.9, 0.8, 1.0), "the <door>", Measured(0.1), 0.0, 0.5, claimed=True)
    attack = Attack("n", "title & more", "q", "k", "s", (outcome,), "what remains")

    report = write_attack_report(tmp_path, (attack,), source="drawn", seed=1)

    page = (tmp_path / "attacks.html").read_text()
    assert report == json.loads((tmp_path / "attacks.json").read_text())
    assert report["passed"]
    assert "the &lt;door&gt;" in page
    assert "what remains" in page
    assert (PAGES / "style.css").read_text().strip() in page
    assert "http" not in page


def test_a_folder_without_a_replay(tmp_path):
    with pytest.raises(InputError, match="replay-missing"):
        material_of_replay(tmp_path)
