"""Two workspaces with the same ids: tables merge on `id`, so their rows would take turns in one dataset. Pure."""

from __future__ import annotations

from .exceptions import ConfigurationError
from .known import Stranger


def shared_id(table: str, stranger: Stranger, workspace: str, server_url: str) -> ConfigurationError:
    """The error that says which workspace has the row already, why that may be, and what to do.

    Args:
        table: where the row is.
        stranger: the row that is there.
        workspace: the one that was about to load a row with the same id.
        server_url: its server.
    """
    what = f"{table} {stranger.id} of the workspace {workspace!r} ({server_url}) is in this dataset as a row of the "
    other = f"workspace {stranger.workspace!r}"
    if stranger.server_url == server_url:
        return ConfigurationError(
            f"{what}{other}, loaded from the same URL. Is it another name of the same workspace? Then use the name "
            f"{stranger.workspace!r} again, or load into a dataset of its own. Nothing was overwritten."
        )
    return ConfigurationError(
        f"{what}{other} ({stranger.server_url or 'of an unknown URL'}). Is one server restored from a backup of the "
        "other? Then give each a dataset of its own (--dataset). Is it one server under two names or URLs? Then use "
        f"the name {stranger.workspace!r} again. Nothing was overwritten."
    )
