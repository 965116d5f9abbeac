import asyncio
from pathlib import Path

from lmrun.deploy.early import Early


def test_children_that_wait_are_taken_once_and_none_outlives_the_deployment() -> None:
    async def main() -> None:
        async with Early() as early:
            engine = await early.take("engine")
            assert early.socket_path.parent.is_dir()
            assert str(early.socket_path) in _command(engine.pid)
            another = await early.take("engine")
            assert another.pid != engine.pid
            server = await early.take("server")
            assert server.alive
        assert not any(child.alive for child in (engine, another, server))
        assert not early.socket_path.parent.exists()

    asyncio.run(main())


def test_children_that_wait_end_before_stages_run_and_fresh_ones_follow() -> None:
    async def main() -> None:
        async with Early() as early:
            before = set(early.children.pids)
            await early.drop()
            assert not early.children.pids
            assert (await early.take("server")).pid not in before

    asyncio.run(main())


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
