-- One row a workspace that was synced: up to when its copy is true. What was due later is no news of its runs.
-- copied_until: When the last sync began, by the server's clock; now where that clock is ahead, and before the first sync has ended.
SELECT
    workspace,
    CASE WHEN MAX(window_end) < CURRENT_TIMESTAMP THEN MAX(window_end) ELSE CURRENT_TIMESTAMP END AS copied_until
FROM syncs
GROUP BY workspace
