"""A study whose scale is found with noise: from a public model to a protocol, over the wire, in the ledger and the report."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from flwr.app import Context, Message, RecordDict
from typer.testing import CliRunner

from client.app import app as client_app
from client.site import open_site
from client.tasks import moments
from client.tasks.load_cohort import load_cohort
from client.tasks.require_noise import require_noise
from common.catalogue import PAPER_SIGNATURE
from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.errors import ConfigError, Refused
from common.messages.anova import AnovaRequest
from common.messages.base import Refusal
from common.messages.contingency import ContingencyRequest
from common.messages.harmoniser import Harmoniser
from common.messages.moments import MomentsRequest
from common.messages.records import from_records, to_records
from common.messages.segment_round import SegmentRoundRequest
from common.privacy.accounting import epsilon_of
from server.cli import app
from server.reporting.model_files import write_model
from server.reporting.privacy import privacy_view
from simulation.engines import run_local
from simulation.local_grid import LocalGrid
from simulation.private_statistics import with_private_statistics
from simulation.replica import first_model
from tests.builders import Federation, small_protocol, sum_securely, write_federation

SIZES = {"aachen": 24, "bern": 20, "cork": 28}
PRIVATE = {"target_epsilon": 8.0, "sampling_rate": 0.5}
FIXED = {"selection": {"method": "fixed_signature"}, "federation": {"min_sites": 2, "min_cases": 4, "timeout_s": 600}}


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """The model folder of a study without privacy, of cases that anybody may know."""
    folder = tmp_path_factory.mktemp("public")
    federation = write_federation(folder, small_protocol(**FIXED), {"leuven": 40, "ghent": 40})
    write_model(folder / "model", run_local(federation.study, list(federation.sites.values())))
    return folder / "model"


def with_reference(public, folder, asked=PRIVATE, training=None, **options) -> Protocol:
    """As the coordinator makes it."""
    plain = folder / "plain.yaml"
    rounds = {"rounds": 3, "local_epochs": 2, **(training or {})}
    protocol = small_protocol(**FIXED, privacy={"record_level": asked}, training=rounds)
    plain.write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    out = folder / "private.yaml"

    result = CliRunner().invoke(
        app, ["reference", str(public), "--protocol", str(plain), "--out", str(out), "--json", *words]
    )

    assert result.exit_code == 0, result.output
    told, protocol = json.loads(result.stdout), parse_settings(Protocol, out.read_text(), source=out.name)
    assert told["fingerprint"] == protocol.fingerprint()
    assert told["epsilon_of_statistics"] == epsilon_of(protocol.privacy.record_level.statistics.events(), 1e-4)
    return protocol


def run(folder, protocol: Protocol, *, securely: bool = False):
    federation = write_federation(folder, protocol, SIZES)
    federation = sum_securely(federation) if securely else federation
    return federation, run_local(federation.study, list(federation.sites.values()))


def ledger(federation: Federation, site: str) -> list[dict]:
    path = open_site(federation.sites[site]).settings.cache / "budget" / f"{site}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def deviations_off(federation: Federation, state) -> np.ndarray:
    """Of the signature's means from the pooled ones, in pooled deviations."""
    tables = [
        load_cohort(open_site(path)).training.table.columns(PAPER_SIGNATURE) for path in federation.sites.values()
    ]
    values = np.concatenate([table.values for table in tables])
    columns = [state.protocol.radiomics.names().index(name) for name in PAPER_SIGNATURE]
    return (state.moments.radiomics_mean[columns] - values.mean(axis=0)) / values.std(axis=0)


@pytest.fixture(scope="module")
def study(public, tmp_path_factory):
    folder = tmp_path_factory.mktemp("private")
    return run(folder, with_reference(public, folder))


def test_statistics_and_rounds_together_spend_the_target(study):
    federation, state = study

    told = privacy_view(state.protocol, state.rounds_done, from_release=False)["record_level"]

    assert state.status() == "completed", [(e.action, e.round, e.codes) for e in state.exchanges]
    assert told["told_without_noise"] == ["how many training cases each site has"]
    assert told["statistics_noise_multiplier"] == 4.0
    for site in SIZES:
        spent = [line for line in ledger(federation, site) if line["event"] == "spent"]
        assert [(line["action"], line["round"]) for line in spent] == [
            ("moments", 1),
            ("moments", 2),
            *(("train_round", number) for number in range(1, state.rounds_done + 1)),
        ]
        assert spent[-1]["epsilon"] == pytest.approx(told["epsilon"]["rdp"])
    assert 0.97 * 8 < told["epsilon"]["rdp"] <= 8


def test_the_scale_is_near_the_pooled_one_and_not_it(study):
    off = np.abs(deviations_off(*study))

    assert off.min() > 0
    assert np.median(off) < 1.5  # 54 cases at noise 4: about 1.0 is stated


def test_with_hardly_any_noise_it_is_the_pooled_scale(public, tmp_path):
    """And nothing is told of features outside the signature."""
    settings = with_reference(public, tmp_path, asked={"noise_multiplier": 1.0}, noise_multiplier=0.01)
    protocol = settings.model_dump(mode="json")
    protocol["privacy"]["record_level"]["statistics"]["largest"] = 50.0
    federation = write_federation(tmp_path, Protocol.model_validate(protocol), SIZES)
    for path in federation.sites.values():
        site = yaml.safe_load(path.read_text()) | {"budget": {"epsilon": 1e9}}
        path.write_text(yaml.safe_dump(site))

    state = run_local(federation.study, list(federation.sites.values()))

    assert np.abs(deviations_off(federation, state)).max() < 0.5
    others = [name not in PAPER_SIGNATURE for name in state.protocol.radiomics.names()]
    assert not state.moments.radiomics_mean[others].any()


def test_noisy_sums_are_summed_securely_too(public, tmp_path):
    _, state = run(tmp_path, with_reference(public, tmp_path, training={"encoding": "float32"}), securely=True)

    assert state.status() == "completed", [(e.action, e.round, e.codes) for e in state.exchanges]


def test_simulated_noise_gives_the_studys_own_scale_without_messages(public, tmp_path):
    """So that the table of epsilon against AUC is that of studies; to the last bit."""
    protocol = with_reference(public, tmp_path)
    federation = write_federation(tmp_path, protocol, SIZES)
    for path in federation.sites.values():
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"budget": {"noise": "repeatable"}}))
    state = run_local(federation.study, list(federation.sites.values()))
    cases = {name: load_cohort(open_site(path)).training for name, path in federation.sites.items()}
    exact = first_model(list(cases.values()), protocol)

    found = with_private_statistics(exact, cases, protocol)

    model = state.model()
    assert found.signature == model.signature
    for name in ("radiomics_mean", "radiomics_deviation", "visual_mean", "visual_deviation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(model, name))


def test_a_question_that_comes_again_has_the_same_answer_and_costs_nothing(study):
    federation, state = study
    site = open_site(federation.sites["bern"])
    request = MomentsRequest(
        fingerprint=state.protocol.fingerprint(), study="again", harmoniser=Harmoniser(method="none")
    )

    first, second = moments.answer(request, site), moments.answer(request, site)

    np.testing.assert_array_equal(first.radiomics, second.radiomics)
    np.testing.assert_array_equal(first.visual, second.visual)
    assert [line["study"] for line in ledger(federation, "bern") if line["event"] == "spent"].count("again") == 1
    with pytest.raises(Refused, match="privacy-harmonised"):
        moments.answer(request.model_copy(update={"harmoniser": Harmoniser(method="site_zscore")}), site)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"selection": {"method": "mutual_information"}}, "fixed_signature or votes beside statistics"),
        ({"visual": {"variant": "none"}}, "of 0 visual features, not 2048"),
        ({"privacy": "without a feature"}, "all of them and no other"),
        ({"privacy": "too little target"}, "the statistics alone spend epsilon"),
    ],
)
def test_what_does_not_fit_is_named(public, tmp_path, change, words):
    settings = with_reference(public, tmp_path).model_dump(mode="json")
    asked = settings["privacy"]["record_level"]
    if change.get("privacy") == "without a feature":
        del asked["statistics"]["radiomics"][PAPER_SIGNATURE[0]]
    elif change.get("privacy") == "too little target":
        asked["target_epsilon"] = 1.0
    else:
        settings |= change

    with pytest.raises(ConfigError) as told:
        parse_settings(Protocol, yaml.safe_dump(settings), source="protocol.yaml")

    assert words in told.value.explain()


@pytest.mark.parametrize("kind", [AnovaRequest, ContingencyRequest, SegmentRoundRequest])
def test_a_server_that_asks_for_sums_without_noise_gets_nothing(study, kind):
    """Whatever its own protocol says of selection: the promise is the site's to keep."""
    federation, state = study
    rest = {
        AnovaRequest: {"harmoniser": Harmoniser(), "mean": np.zeros(1702)},
        ContingencyRequest: {"harmoniser": Harmoniser(), "edges": np.zeros((1702, 4))},
        SegmentRoundRequest: {"round": 1, "weights": {}},
    }[kind]
    request = kind(fingerprint=state.protocol.fingerprint(), **rest)
    category = "train" if kind is SegmentRoundRequest else "query"
    message = Message(to_records(request), dst_node_id=1, message_type=f"{category}.{request.action}")
    LocalGrid(client_app, [])

    config = {"site": str(federation.sites["bern"]), "name": "bern"}
    reply = client_app(message, Context(1, 1, config, RecordDict(), {}))

    expected = "privacy-not-for-segmentation" if kind is SegmentRoundRequest else "statistics-without-noise"
    assert from_records(reply.content, Refusal).code == expected


def test_a_message_nobody_has_thought_about_stays(study):
    federation, _ = study

    with pytest.raises(Refused, match="statistics-without-noise"):
        require_noise("tomorrows_sums", open_site(federation.sites["bern"]))


def test_a_reference_that_is_not_there_is_named_as_it_was_given(tmp_path):
    plain = tmp_path / "plain.yaml"
    protocol = small_protocol(**FIXED, privacy={"record_level": PRIVATE})
    plain.write_text(yaml.safe_dump(protocol.model_dump(mode="json")))

    words = ["reference", str(tmp_path / "nowhere"), "--protocol", str(plain), "--out", str(tmp_path / "o")]
    fault = CliRunner().invoke(app, words).exception

    assert (getattr(fault, "code", ""), getattr(fault, "field", "")) == ("model-unreadable", "MODEL")


def test_a_protocol_without_privacy_has_no_private_statistics(public, tmp_path):
    plain = tmp_path / "plain.yaml"
    plain.write_text(yaml.safe_dump(small_protocol(**FIXED).model_dump(mode="json")))

    words = ["reference", str(public), "--protocol", str(plain), "--out", str(tmp_path / "o")]
    fault = CliRunner().invoke(app, words).exception

    assert getattr(fault, "code", "") == "privacy-absent"


def test_a_model_of_other_features_is_no_reference(public, tmp_path):
    plain = tmp_path / "plain.yaml"
    other = small_protocol(**FIXED, privacy={"record_level": PRIVATE}, preprocessing={"spacing_mm": 2.0})
    plain.write_text(yaml.safe_dump(other.model_dump(mode="json")))

    result = CliRunner().invoke(app, ["reference", str(public), "--protocol", str(plain), "--out", str(tmp_path / "o")])

    assert result.exit_code != 0
    assert not (tmp_path / "o").exists()
    assert getattr(result.exception, "code", "") == "reference-differs"
