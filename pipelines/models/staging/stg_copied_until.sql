-- One row a workspace that was synced: up to when its copy of flow runs is true. What was due later is no news of its runs.
-- copied_until: When the last sync began that read flow runs, by the server's clock; now where that clock is ahead, and before the first such sync has ended.
WITH ends AS (
    SELECT
        workspace,
        MAX(
            CASE WHEN resources IS NULL OR CAST(resources AS VARCHAR) LIKE '%"flow_runs"%' THEN window_end END
        ) AS window_end
    FROM syncs
    GROUP BY workspace
)
SELECT workspace, CASE WHEN window_end < CURRENT_TIMESTAMP THEN window_end ELSE CURRENT_TIMESTAMP END AS copied_until
FROM ends
