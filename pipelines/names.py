"""Names that are the same in every command, and different where things are to be kept apart."""

from __future__ import annotations

import hashlib
import re

from .options import SyncOptions


def pipeline_name(options: SyncOptions, workspace: str) -> str:
    """A name of its own for each workspace and destination, for dlt keeps the watermark under it."""
    destination, dataset, *file = options.identity
    readable = re.sub(r"[^a-z0-9]+", "_", workspace.lower()).strip("_")[:30]
    return f"prefect_runs_{readable}_{digest(destination, dataset, workspace, *file)}"


def staging_layout(workspace: str) -> str:
    """A staging dataset for each workspace: the next load of one goes on with what a failed one staged."""
    return f"%s_staging_{digest(workspace)}"


def digest(*words: str) -> str:
    """Six letters and digits that tell `words` from others."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:6]
