"""Checks a pickle before it is loaded: every key in it must be a plain text or number.

torch's restricted unpickler executes no code, but it puts keys into dictionaries. A key of nested tuples that share
their parts takes a few hundred bytes and practically never finishes hashing. A checkpoint has no such key.
"""

from __future__ import annotations

import pickletools

_SCALARS = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
    | {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"}
    | {"NEWTRUE", "NEWFALSE", "NONE", "BINBYTES", "SHORT_BINBYTES"}
)
_PUSHED = {"EMPTY_DICT": "dict", "EMPTY_LIST": "list", "EMPTY_TUPLE": "nothing", "EMPTY_SET": "set"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


def has_plain_keys(data: bytes) -> bool:
    """Whether every key of every mapping in a pickle is certain to be a text or a number.

    The pickle is executed on the kinds of its values in place of the values. Any opcode that `torch.save` does not
    use makes the result False. Time and memory are linear in the length of `data`.
    """
    stack: list[str] = []
    memo: dict[int, str] = {}
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return True
            if not _step(name, argument, stack, memo):
                return False
    except (IndexError, KeyError, ValueError):
        pass
    return False


def _step(name: str, argument: object, stack: list[str], memo: dict[int, str]) -> bool:
    """Execute one opcode on the kinds; return False if it may hash a key that is not plain."""
    if name in _SCALARS:
        stack.append("plain")
    elif name in _PUSHED:
        stack.append(_PUSHED[name])
    elif name == "MARK":
        stack.append("mark")
    elif name in _TUPLES:
        del stack[len(stack) - _TUPLES[name] :]
        stack.append("other")
    elif name == "TUPLE":
        stack.append("other" if _pop_to_mark(stack) else "nothing")
    elif name in _PUTS or name == "MEMOIZE":
        memo[len(memo) if name == "MEMOIZE" else int(str(argument))] = stack[-1]
    elif name in _GETS:
        stack.append(memo[int(str(argument))])
    elif name == "GLOBAL":
        stack.append(f"global {argument}")
    elif name == "REDUCE":
        arguments, called = stack.pop(), stack.pop()
        stack.append("other")
        return called.startswith("global torch") or arguments == "nothing"
    elif name == "BINPERSID":
        stack[-1] = "other"
    elif name in ("APPEND", "BUILD"):
        stack.pop()
    elif name == "APPENDS":
        _pop_to_mark(stack)
    elif name == "SETITEM":
        stack.pop()
        return stack.pop() == "plain"
    elif name == "SETITEMS":
        return all(kind == "plain" for kind in _pop_to_mark(stack)[::2])
    else:
        return name == "PROTO"
    return True


def _pop_to_mark(stack: list[str]) -> list[str]:
    at = len(stack) - 1 - stack[::-1].index("mark")
    above = stack[at + 1 :]
    del stack[at:]
    return above
