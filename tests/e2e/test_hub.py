"""A model of the hub, from a plan to an answer, and again with the hub gone."""

from pathlib import Path

import httpx
import pytest
from e2e.deployment import Starter, run

from lmrun.models import builtin
from lmrun.stages.resolve import write_builtin
from unit.models import hub_server


def test_a_model_of_the_hub_is_planned_built_served_and_served_again_offline(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, home = tmp_path / "model", tmp_path / "own-home"
    folder.mkdir()
    write_builtin(builtin.get("random-llama"), folder)
    model = ("model.path=null", "model.hub_id=org/Random-Llama")
    prompt = {"model": "Random-Llama", "prompt": "hello", "max_tokens": 8, "temperature": 0}

    def completion(url: str) -> str:
        answer = httpx.post(f"{url}/v1/completions", json=prompt, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    with hub_server.serve() as hub:
        hub.add("org/Random-Llama", folder)
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        planned = run(home, "plan", *model)
        assert planned.returncode == 0, planned.stderr
        assert "resolve   run " in planned.stdout
        assert "download 5 files, " in planned.stdout
        assert not home.exists()
        assert not (tmp_path / "hf").exists()
        built = run(home, "build", *model, "-q")
        assert built.returncode == 0, built.stderr
        deployment = start(*model, own_home=home)
        assert "random weights" not in deployment.err
        assert deployment.line("model") == "model  Random-Llama"
        text = completion(deployment.url)
        assert text
        assert deployment.stop() == 0
    gone = run(home, "plan", *model)
    assert gone.returncode == 5
    assert "cannot reach http://127.0.0.1:" in gone.stderr
    offline = start(*model, "model.hub_offline=true", own_home=home)
    assert "offline: main is taken as " in offline.err
    assert "   run " not in offline.err
    assert completion(offline.url) == text
    assert offline.stop() == 0
