"""`klamm features …`: from arguments to output, in the words of kafka-features (row 182)."""

import json

import pytest
from fake_controllers import FakeControllers

from klamm.cli.app import run
from klamm.errors import ApiError, ErrorCode
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import metadata_pb2 as metadata

HERE = ("--controller", "c1:9093")


@pytest.fixture
def controllers() -> FakeControllers:
    return FakeControllers(
        features=[
            metadata.Feature(
                name="metadata.version", finalized_level=22, min_level=22, max_level=23
            ),
            metadata.Feature(name="other.version", min_level=1, max_level=4),
        ]
    )


def asked(controllers: FakeControllers) -> admin.UpdateFeaturesRequest:
    request = controllers.asked[-2]
    assert controllers.asked[-1] == "close"
    assert isinstance(request, admin.UpdateFeaturesRequest)
    return request


def levels(controllers: FakeControllers) -> dict[str, int]:
    return {each.feature: each.level for each in asked(controllers).updates}


def test_described_with_kafkas_columns(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["features", "describe", *HERE], controllers.world()) == 0
    told = capsys.readouterr()
    heads, first, second = (each.split() for each in told.out.splitlines())
    assert heads[0] == "Feature"
    assert heads[-2:] == ["FinalizedVersionLevel", "Epoch"]
    assert " ".join(first) == "metadata.version 22 (4.0-IV0) 23 (4.0-IV1) 22 (4.0-IV0) 42"
    assert second == ["other.version", "1", "4", "0", "42"]
    assert "klamm features upgrade" in told.err


def test_json_has_numbers_and_no_advice_is_given_where_there_is_none(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.features[0].finalized_level = 23
    assert run(["features", "describe", "-o", "json", *HERE], controllers.world()) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "feature": "metadata.version",
        "supported_min_version": 22,
        "supported_max_version": 23,
        "finalized_version_level": 23,
        "epoch": 42,
    }
    assert run(["features", "describe", *HERE], controllers.world()) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"metadata.version": 23}),
        (["--metadata", "23"], {"metadata.version": 23}),
        (["--metadata", "4.0-IV1"], {"metadata.version": 23}),
        (["--feature", "a.b=2", "--metadata", "24"], {"metadata.version": 24, "a.b": 2}),
        (["--feature", "a=1", "--feature", "b=0"], {"a": 1, "b": 0}),
    ],
)
def test_upgraded(
    words: list[str],
    expected: dict[str, int],
    controllers: FakeControllers,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["features", "upgrade", *words, *HERE], controllers.world()) == 0
    assert levels(controllers) == expected
    assert not asked(controllers).validate_only
    assert {each.upgrade_type for each in asked(controllers).updates} == {1}
    told = capsys.readouterr().out.splitlines()
    assert len(told) == len(expected)
    if expected == {"metadata.version": 23}:
        assert told == ["metadata.version was upgraded to 23 (4.0-IV1)."]


def test_a_dry_run_says_what_would_be(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["features", "upgrade", "--dry-run", *HERE], controllers.world()) == 0
    assert asked(controllers).validate_only
    assert capsys.readouterr().out == "metadata.version can be upgraded to 23 (4.0-IV1).\n"
    controllers.features[0].finalized_level = 23
    assert run(["features", "upgrade", *HERE], controllers.world()) == 0
    assert capsys.readouterr().out == "metadata.version is 23 (4.0-IV1) already.\n"


@pytest.mark.parametrize(("words", "kind"), [([], 2), (["--unsafe"], 3)])
def test_downgraded(words: list[str], kind: int, controllers: FakeControllers) -> None:
    words = ["features", "downgrade", "--metadata", "22", *words, *HERE]
    assert run(words, controllers.world()) == 0
    assert [each.upgrade_type for each in asked(controllers).updates] == [kind]


def test_a_refusal_is_the_controllers_sentence(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "metadata.version 23: broker 2 only supports metadata.version from 22 to 22"
    controllers.refusal = ApiError(ErrorCode.INVALID_UPDATE_VERSION, why)
    assert run(["features", "upgrade", *HERE], controllers.world()) == 1
    assert capsys.readouterr().err == f"klamm: INVALID_UPDATE_VERSION: {why}\n"


def test_a_broker_that_holds_an_upgrade_up_for_ever_is_unregistered(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["brokers", "unregister", "--id", "3"]
    assert run([*words, *HERE], controllers.world()) == 0
    assert controllers.asked[0].broker_id == 3
    assert capsys.readouterr().out == "Broker 3 is no longer registered.\n"
    controllers.refusal = ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, "no broker 3 is registered")
    assert run([*words, *HERE], controllers.world()) == 1
    assert "no broker 3 is registered" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["upgrade", "--metadata", "next"],
        ["upgrade", "--metadata", "-1"],
        ["upgrade", "--feature", "metadata.version"],
        ["upgrade", "--feature", "=3"],
        ["upgrade", "--feature", "a=b"],
        ["upgrade", "--feature", "metadata.version=23", "--metadata", "23"],
        ["downgrade"],
    ],
)
def test_wrong_usage(words: list[str], controllers: FakeControllers) -> None:
    assert run(["features", *words, *HERE], controllers.world()) == 2
    assert not controllers.asked
