"""A secret is a reference until it is used, and stands in no output."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from lmrun.cli import main
from lmrun.config import compose
from lmrun.config.secrets import resolve
from lmrun.errors import ConfigError, ExitStatus

CANARY = "sk-canary-5b1f"

LITERALS = [
    f"frontend.api_keys=[{CANARY}]",
    f"frontend.api_keys={CANARY}",
    f"frontend.api_keys=[{CANARY}",
    f"frontend.api_keys=[{CANARY}],[{CANARY}]",
    f"frontend.api_keys=['${{oc.env:KEY,{CANARY}}}']",
    f"frontend.api_keys=['x-${{oc.env:KEY}}-{CANARY}']",
    f"frontend.api_key=[{CANARY}]",
    f"+api_key={CANARY}",
    f"frontend={{api_keys: [{CANARY}]}}",
    f"~frontend.api_keys={CANARY}",
    f"model.hub_token={CANARY}",
    f"model.hub_token=[{CANARY}]",
    f"model.hub_token='${{oc.env:KEY,{CANARY}}}'",
]


@pytest.mark.parametrize("override", LITERALS)
@pytest.mark.parametrize("verb", ["plan", "up", "build"])
def test_a_literal_key_is_refused_and_not_repeated(
    verb: str, override: str, capfd: pytest.CaptureFixture[str]
) -> None:
    status = main.run([verb, override, "--cfg", "job"])
    out, err = capfd.readouterr()
    assert status in (ExitStatus.CONFIG, ExitStatus.REFUSED)
    assert err.startswith("lmrun: ")
    assert CANARY not in out + err


def test_a_literal_key_in_a_recipe_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "recipes" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(f"frontend:\n  api_keys:\n    - {CANARY}\n")
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=mine"], cwd=tmp_path)
    assert str(caught.value) == (
        "frontend.api_keys (recipes/mine.yaml:2): expected references, got a literal key, which"
        " would be seen in files, logs and the process list. Put it in an environment variable"
        " and write '${oc.env:NAME}'."
    )


def test_a_reference_is_kept_until_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMRUN_TEST_KEY", CANARY)
    override = "frontend.api_keys=['${oc.env:LMRUN_TEST_KEY}']"
    composed = compose([override])
    assert composed.run.frontend.api_keys == ["${oc.env:LMRUN_TEST_KEY}"]
    assert CANARY not in json.dumps(asdict(composed.run)) + repr(composed)
    assert resolve(composed.run.frontend.api_keys[0]) == CANARY
    assert main.run([override, "--cfg", "job"]) is ExitStatus.OK
    assert "${oc.env:LMRUN_TEST_KEY}" in capfd.readouterr().out
    assert main.run(["plan", override, "--json"]) is ExitStatus.OK
    out, err = capfd.readouterr()
    assert CANARY not in out + err


def test_another_key_cannot_read_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMRUN_TEST_KEY", CANARY)
    keys = "frontend.api_keys=['${oc.env:LMRUN_TEST_KEY}']"
    with pytest.raises(ConfigError) as caught:
        compose([keys, "model.served_name=${frontend.api_keys.0}"])
    assert CANARY not in str(caught.value)


def test_a_reference_to_an_unset_variable_is_refused_when_it_is_used() -> None:
    assert compose(["frontend.api_keys=['${oc.env:LMRUN_UNSET}']"]).run.frontend.api_keys
    with pytest.raises(ConfigError) as caught:
        resolve("${oc.env:LMRUN_UNSET}")
    assert str(caught.value) == (
        "${oc.env:LMRUN_UNSET}: the environment variable LMRUN_UNSET is not set."
        " Set it, or take the reference out."
    )


def test_what_is_no_reference_is_not_resolved() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(CANARY)
    assert str(caught.value) == (
        "secret: expected a reference such as ${oc.env:NAME}, got another text."
    )
