"""`mcp --root URL`: a store in trouble is the answer to a call, and the server goes on."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from tests.analyzer.serving.agents import Agent, connected
from tests.object_store.proxy import Asked, Proxy
from tests.object_store.servers import Server
from tests.object_store.stored import put_folder, record

from esper_analyzer.serving.tools import TOOLS

CALLS: dict[str, dict[str, Any]] = {
    "runs": {},
    "report": {"run": "mine"},
    "check": {"run": "mine"},
    "explain": {"run": "mine", "update": 20},
    "compare": {"runs": ["mine", "other"]},
    "series": {"run": "mine", "metrics": ["value_loss"]},
}
"""A call of each tool that reads rows."""

CUTS = ("half", "reset", "closed", "500")
"""Ways in which rows break off, each for another tool; `test_trouble.py` tries the ways for each command."""


def test_each_tool_is_called() -> None:
    """A new tool gets a call here, too."""
    assert CALLS.keys() == TOOLS.keys()


@pytest.mark.slow
def test_the_server_outlives_its_store(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows break off, each tool answers with an error of one line, without a secret; then with what is there."""
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("mine", "other"):
        put_folder(moto, record(tmp_path / "runs", name, 30, 10), f"runs/{name}")
    with Proxy(moto) as proxy:
        for name, value in proxy.variables().items():
            monkeypatch.setenv(name, value)
        with connected(moto.url("runs"), tmp_path / "log") as agent:
            for cut, (tool, arguments) in zip(cycle(CUTS), CALLS.items(), strict=False):

                def is_cut(asked: Asked, cut: str = cut) -> str | None:
                    return cut if "/segments/" in asked.path else None

                proxy.trouble = is_cut
                _fails(agent, moto, tool, arguments)
            proxy.trouble = lambda asked: None
            moto.kill()
            for tool, arguments in CALLS.items():
                _fails(agent, moto, tool, arguments)
            moto.start()  # it has forgotten the runs
            for name in ("mine", "other"):
                put_folder(moto, tmp_path / "runs" / name, f"runs/{name}")
            for tool, arguments in CALLS.items():
                assert agent.ask(tool, **arguments), tool
    assert (tmp_path / "log").read_text() == ""


def _fails(agent: Agent, server: Server, tool: str, arguments: dict[str, Any]) -> None:
    line = agent.error(tool, **arguments)
    assert line.startswith(server.url("runs")), (tool, line)
    assert "defect" not in line, line
    for secret in (server.secret, "S3RVER", "Signature", "Authorization"):
        assert secret not in line
