"""The server of the Model Context Protocol, by the official SDK (extra `mcp`); only this module imports it.

It answers one call at a time, in a thread, so that it stays responsive. It offers tools and nothing else: no prompts,
no resources, and nothing that writes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from esper_analyzer.serving.parameters import schema_of
from esper_analyzer.serving.runs_folder import RunsFolder
from esper_analyzer.serving.tools import INSTRUCTIONS, TOOLS, call
from esper_schemas.cleaning import printable
from esper_schemas.console import TerminatedError
from esper_schemas.errors import UsageError

MAX_REQUEST_BYTES = 1_000_000
"""Longest line that a client may send."""


def serve(folder: RunsFolder) -> None:
    """Answer the client on standard input and output until it closes standard input.

    Raises:
        UsageError: the client sent a line that is too long.
        BrokenPipeError: the client no longer reads standard output.
        KeyboardInterrupt, TerminatedError: SIGINT, SIGTERM arrived.
    """
    try:
        ended_by = anyio.run(_serve, make_server(folder))
    except BaseExceptionGroup as group:
        raise _first_of(group) from None
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if ended_by == signal.SIGTERM:
        raise TerminatedError


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group: the tasks of a server put what ends it in a group, and that in another."""
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def make_server(folder: RunsFolder) -> Server[Any]:
    """Make the server that answers about the runs of a folder."""
    one_at_a_time = threading.Lock()  # reading redirects standard error of the whole process

    async def list_tools(_context: object, _params: PaginatedRequestParams | None) -> ListToolsResult:
        reads = ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        )
        return ListToolsResult(
            tools=[
                Tool(
                    name=tool.name,
                    title=tool.title,
                    description=tool.description,
                    input_schema=schema_of(tool.parameters),
                    annotations=reads,
                )
                for tool in TOOLS.values()
            ]
        )

    async def call_tool(_context: object, params: CallToolRequestParams) -> CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(
                INVALID_PARAMS, f"there is no tool {printable(params.name[:100])!r}; the tools are {', '.join(TOOLS)}"
            )

        def answer() -> tuple[str, bool]:
            with one_at_a_time:
                return call(tool, folder, params.arguments or {})

        text, is_error = await anyio.to_thread.run_sync(answer, abandon_on_cancel=True)
        return CallToolResult(content=[TextContent(text=text)], is_error=is_error)

    server: Server[Any] = Server(
        "esper",
        version=_version(),
        title="Esper Recorder",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    server.middleware.clear()  # the SDK reports each call to OpenTelemetry, where that is set up; we tell nobody
    return server


async def _serve(server: Server[Any]) -> int | None:
    """Serve until standard input ends or a signal arrives; return the signal."""
    ended_by: int | None = None
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                nonlocal ended_by
                async for number in signals:
                    ended_by = number
                    tasks.cancel_scope.cancel()

            tasks.start_soon(end)
            lines: Any = Lines(0)  # the SDK only iterates over it
            async with stdio_server(stdin=lines) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
            tasks.cancel_scope.cancel()
    return ended_by


class Lines:
    """The lines of a descriptor, for `async for`. Unlike the SDK's own reader, waiting for one can be cancelled.

    That reader waits in a thread, which keeps the process from ending on Ctrl-C until the next line arrives.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[str]:
        rest = b""
        while chunk := await self._read():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
            if len(rest) > MAX_REQUEST_BYTES:
                raise UsageError(f"a line of the client is longer than {MAX_REQUEST_BYTES:,} bytes; send shorter ones")
        if rest:
            yield rest.decode(errors="replace")

    async def _read(self) -> bytes:
        try:
            await anyio.wait_readable(self._descriptor)
        except PermissionError:  # a file or the null device, which never makes a reader wait
            await anyio.lowlevel.checkpoint()
        return os.read(self._descriptor, 1 << 16)


def _version() -> str:
    try:
        return version("esper-recorder")
    except PackageNotFoundError:
        return "unknown"
