"""A coding agent: the client of the official SDK, and the command as a process of its own, over its pipes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import TextContent, Tool

COMMAND = [sys.executable, "-m", "esper_analyzer", "mcp"]


@dataclass(frozen=True)
class Agent:
    """A client that is connected to a server.

    Attributes:
        instructions: what the server says of itself.
    """

    portal: BlockingPortal
    client: Client
    instructions: str

    def tools(self) -> dict[str, Tool]:
        """The tools of the server by name."""
        return {tool.name: tool for tool in self.portal.call(self.client.list_tools).tools}

    def text(self, tool: str, **arguments: Any) -> tuple[str, bool]:
        """The one text of the answer to a call, and whether it is an error."""
        result = self.portal.call(self.client.call_tool, tool, arguments)
        (content,) = result.content
        assert isinstance(content, TextContent)
        return content.text, result.is_error

    def answer(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a call that is no error."""
        text, is_error = self.text(tool, **arguments)
        assert not is_error, text
        answer: dict[str, Any] = json.loads(text)
        return answer

    def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The document of the answer to a call that is no error."""
        document: dict[str, Any] = self.answer(tool, **arguments)["document"]
        return document

    def error(self, tool: str, **arguments: Any) -> str:
        """The line of the answer to a call that is an error."""
        text, is_error = self.text(tool, **arguments)
        assert is_error, text
        line: str = json.loads(text)["error"]
        assert "\n" not in line
        return line


@contextmanager
def connected(root: Path | str, log: Path) -> Iterator[Agent]:
    """An agent whose server reads the runs below `root`, a folder or a URL; its standard error is the file `log`."""
    server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "--root", str(root)], env=dict(os.environ))
    with (
        log.open("w") as told,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(stdio_client(server, errlog=told))) as client,
    ):
        yield Agent(portal, client, client.instructions or "")
