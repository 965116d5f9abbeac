"""The store beside a deployment that runs."""

import signal
from pathlib import Path

from e2e.deployment import Starter, run


def test_what_is_served_is_not_removed(start: Starter, tmp_path: Path) -> None:
    home = tmp_path / "home"
    deployment = start(own_home=home)
    (record,) = (home / "deployments").glob("*.json")
    workspace = next((home / "artifacts" / "convert").iterdir())
    swept = run(home, "store", "gc")
    assert swept.returncode == 0
    title = f"up on port {deployment.port} (pid {deployment.process.pid})"
    assert f"kept  convert {workspace.name[:12]}: used by {title}\n" in swept.stdout
    refused = run(home, "store", "rm", workspace.name, "--force")
    assert refused.returncode == 4
    assert refused.stderr == (
        f"lmrun: convert {workspace.name[:12]}: used by {title}. Stop it first; --force does not"
        " pull an artifact from under a running command.\n"
    )
    assert title in run(home, "store", "ls").stdout
    assert deployment.status("/health/ready") == 200
    assert deployment.stop() == 0
    assert not record.exists()
    assert "removed" in run(home, "store", "gc").stdout
    assert not workspace.exists()


def test_a_killed_deployment_holds_nothing(start: Starter, tmp_path: Path) -> None:
    home = tmp_path / "home"
    deployment = start(own_home=home)
    deployment.process.send_signal(signal.SIGKILL)
    deployment.process.wait(20)
    assert list((home / "deployments").iterdir()) != []
    assert run(home, "store", "gc").returncode == 0
    assert list((home / "deployments").iterdir()) == []
    assert list((home / "artifacts" / "convert").iterdir()) == []
