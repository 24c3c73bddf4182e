-- Times in which a deployment (or a flow, for runs without one) was broken: from its first failure to its next success. A run that was set from one end to another by hand counts as what it is now.
-- grouped_by: deployment or flow.
-- group_id: Id of the deployment or the flow.
-- group_name: Name of the deployment or the flow.
-- episode: Number of the episode in its group, from 1.
-- broken_at: When the first failed or crashed run ended.
-- recovered_at: When the next completed run ended; null while it is broken, or where it was until it was gone.
-- gone_at: When it was first seen that the server no longer has the deployment or the flow.
-- failures: Failed and crashed runs in it.
-- seconds_to_recover: Seconds from broken_at to recovered_at: their mean is the MTTR.
-- seconds_since_recovery: Seconds from the end of the episode before to broken_at: their mean is the MTBF.
WITH ended AS (
    SELECT
        workspace,
        CASE WHEN deployment_id IS NULL THEN 'flow' ELSE 'deployment' END AS grouped_by,
        COALESCE(deployment_id, flow_id) AS group_id,
        COALESCE(deployment_name, flow_name) AS group_name,
        id,
        COALESCE(end_time, state_timestamp) AS end_time,
        CASE WHEN state_type = 'COMPLETED' THEN 1 ELSE 0 END AS good
    FROM flow_run_facts
    WHERE state_type IN ('COMPLETED', 'FAILED', 'CRASHED') AND COALESCE(end_time, state_timestamp) IS NOT NULL
),
counted AS (
    SELECT
        ended.*,
        SUM(good) OVER (
            PARTITION BY workspace, grouped_by, group_id ORDER BY end_time, id
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS successes_before
    FROM ended
),
broken AS (
    SELECT
        workspace, grouped_by, group_id, MAX(group_name) AS group_name, successes_before,
        MIN(end_time) AS broken_at, COUNT(*) AS failures
    FROM counted
    WHERE good = 0
    GROUP BY workspace, grouped_by, group_id, successes_before
),
recovered AS (
    SELECT
        broken.workspace,
        broken.grouped_by,
        broken.group_id,
        broken.group_name,
        broken.broken_at,
        broken.failures,
        good.end_time AS recovered_at,
        ROW_NUMBER() OVER history AS episode,
        LAG(good.end_time) OVER history AS recovered_before
    FROM broken
    LEFT JOIN counted AS good
        ON good.workspace = broken.workspace
        AND good.grouped_by = broken.grouped_by
        AND good.group_id = broken.group_id
        AND good.good = 1
        AND good.successes_before = broken.successes_before + 1
    WINDOW history AS (PARTITION BY broken.workspace, broken.grouped_by, broken.group_id ORDER BY broken.broken_at)
)
SELECT
    recovered.workspace,
    recovered.grouped_by,
    recovered.group_id,
    recovered.group_name,
    recovered.episode,
    recovered.broken_at,
    recovered.recovered_at,
    gone.noticed_at AS gone_at,
    recovered.failures,
    EXTRACT(EPOCH FROM recovered.recovered_at) - EXTRACT(EPOCH FROM recovered.broken_at) AS seconds_to_recover,
    EXTRACT(EPOCH FROM recovered.broken_at) - EXTRACT(EPOCH FROM recovered.recovered_before) AS seconds_since_recovery
FROM recovered
LEFT JOIN tombstones AS gone ON gone.resource = recovered.grouped_by || 's' AND gone.id = recovered.group_id
