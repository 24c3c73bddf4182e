"""What syncs and comparisons found: tombstones, syncs, verifications."""

from __future__ import annotations

from .columns import ID, WORKSPACE, Column, Table, columns

TOMBSTONES = Table(
    "tombstones",
    "What the server no longer has: runs, flows, deployments, work pools, work queues, and optional tables that are "
    "read whole. Rows and states stay; what has no row here is live, or was not yet noticed to be gone.",
    (
        Column("resource", "text", "Table of what is gone: flow_runs, task_runs, deployments, …", nullable=False),
        ID,
        WORKSPACE,
        *columns(
            ("noticed_at", "timestamp", "When it was first seen to be gone (server's clock)."),
            (
                "reason",
                "text",
                "deleted: the server still keeps runs of that age; aged_out: by retention or vacuum; events_only: a "
                "task run that it told of in events and has no row of, so that there are only states.",
            ),
            ("returned", "bool", "Always null here: marks what came back, so that its tombstone is removed."),
        ),
    ),
    ("resource", "id"),
    removed_where="returned",
)

SYNCS = Table(
    "syncs",
    "One row a load: what was read from which server, and whether the copy was whole up to `window_end` then.",
    (
        WORKSPACE,
        *columns(
            ("server_url", "text", "URL of the API."),
            ("server_version", "text", "Version of the server; null on Prefect Cloud."),
            ("window_start", "timestamp", "Changes since this time were read; null for a first load."),
            (
                "window_end",
                "timestamp",
                "The ceiling (server's clock): changes up to this time were read; of a first load, its beginning.",
            ),
            ("finished_at", "timestamp", "Server's clock when everything was read."),
            ("requests", "bigint", "Requests sent to the server, retries included."),
            ("rows_read", "bigint", "Rows received."),
            (
                "rows_changed",
                "bigint",
                "Rows loaded: runs, states and optional rows that are new or changed; of a small table or of the "
                "hourly counts all that were read, when any of them changed. Child rows and tombstones do not count.",
            ),
            ("resources", "json", "Rows read and loaded per resource."),
            ("whole", "bool", "Whether nothing is known to be missing."),
            ("gaps", "json", "What is known to be missing, and why."),
            ("unfinished", "bool", "Whether all that is missing is what the next load goes on with."),
            ("warnings", "json", "What is not missing yet, and will be when nothing is done."),
            ("lost_from", "timestamp", "Runs that ended from here on may be lost: the sync came too late."),
            ("lost_until", "timestamp", "Runs that ended up to here may be lost: the sync came too late."),
            ("runs_kept_days", "double", "Days that the server keeps ended runs; null: for ever, or not asked."),
            ("events_kept_days", "double", "Days that the server keeps events; null: not asked."),
            ("purpose", "text", "sync (or null), backfill or repair; only a sync has a window."),
        ),
    ),
    (),
)

VERIFICATIONS = Table(
    "verifications",
    "One row a comparison of a table with the server: what differed, and up to when the copy was proven whole.",
    (
        WORKSPACE,
        *columns(
            ("resource", "text", "The table that was compared: flow_runs or task_runs."),
            ("verified_at", "timestamp", "Server's clock when the comparison began."),
            ("whole", "bool", "Whether nothing differed but what the next sync loads."),
            (
                "whole_up_to",
                "timestamp",
                "Changes up to this time are all in the table; null where it is not whole, or compared in part.",
            ),
            ("window_start", "timestamp", "Runs expected to start from here on were compared."),
            ("window_end", "timestamp", "Runs expected to start before this time were compared."),
            ("swept", "bool", "Whether every column was compared, not only counts."),
            ("histories", "bool", "Whether state histories were compared with the server's, run by run."),
            ("after_repair", "bool", "Whether this is the comparison after a repair."),
            ("server_runs", "bigint", "Runs on the server."),
            ("warehouse_runs", "bigint", "Live runs in the table."),
            ("missing", "bigint", "Runs that the table lacked."),
            ("changed", "bigint", "Runs that differed, were there twice, or whose state history lacked a state."),
            ("deleted", "bigint", "Live runs that the server no longer had, though it keeps runs of that age."),
            ("aged_out", "bigint", "Live runs that retention or vacuum had removed; the copy is whole all the same."),
            ("since_last_sync", "bigint", "Runs that changed after the last sync, which the next one loads."),
            ("requests", "bigint", "Requests sent for this comparison, both tables together."),
            ("gaps", "json", "What could not be compared, and why."),
            ("drift", "json", "What differed: run ids (or intervals), at most 1,000."),
        ),
    ),
    (),
)
