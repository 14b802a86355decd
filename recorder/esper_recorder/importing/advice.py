"""What a person is told about the keys of a log: why it has no update, which may be the return, what is left out."""

from __future__ import annotations

import shlex
from collections.abc import Collection

from esper_recorder.dialects.key import Dialect
from esper_recorder.dialects.plain import describe_losses, is_metric, likely_losses, likely_return
from esper_recorder.dialects.table import why_lossless
from esper_recorder.importing.account import Account, Named
from esper_schemas.metric.catalogue import EPISODE_RETURN, RETURNS, SLIDING_RETURN

_MOST_NAMED = 10  # keys


def why_no_update(account: Account, keys: Collection[str]) -> str:
    """Say why a log has no row.

    Args:
        account: What became of its records.
        keys: The keys of its scalars.
    """
    if account.refused.count:
        return f"it has no usable update ({account.refused.count:,} refused); {account.refused.first[0]}"
    if not keys:
        left_out = ", ".join(f"{key[:100]} ({why})" for key, why in sorted(account.left_out.items())[:5])
        texts = f"; found {left_out}" if left_out else ""
        return f"it has no scalars, so there is no update{texts}"
    found, options = describe_losses(keys)
    why = why_lossless(keys) or f"name the losses with {options}"
    unread = ", ".join(
        f"{key[:100]} ({account.left_out[key]})"
        for column, left_out in likely_losses(account.left_out).items()
        for key in left_out
        if not likely_losses(keys)[column]
    )
    count = "1 key" if len(keys) == 1 else f"{len(keys):,} keys"
    return f"expected the losses of a PPO, found {count} {found}; {f'not read: {unread}' if unread else why}"


def note_likely_return(account: Account) -> None:
    """Say which key may be the return that nobody named: without one, nothing is said of learning."""
    mapped = [one for one in account.mapped if one.updates]
    key = likely_return([one.key for one in mapped])
    if key is not None and not any(one.column in RETURNS for one in mapped):
        account.notes.append(
            f"no key is known to be the return of the episodes, so nothing says whether the policy learns; if {key}"
            f" is, add --map {shlex.quote(f'{key}={EPISODE_RETURN}')}, or"
            f" ={SLIDING_RETURN} for a mean of the last 100 episodes"
        )


def note_left_out(account: Account, dialect: Dialect) -> None:
    """Say which keys are left out that are numbers of an update by their names, among all the others that are."""
    known = {key.name: key.kind for key in dialect.keys}
    found = Named()
    for key, why in account.left_out.items():
        if known.get(key, "again") != "again" or (key not in known and is_metric(key)):
            found.add(f"{key} ({why})")
    if found.count:
        found.first = found.first[:_MOST_NAMED]
        account.notes.append(f"left out, although named as a number of the update: {found}")
