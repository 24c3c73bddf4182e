-- One row a time that a run was in RUNNING: its attempts, resumes after a pause included. A retry without delay (Retrying straight after Running) begins another.
-- attempt: Number of the attempt in its run, from 1.
-- started_at: When the run entered RUNNING.
-- ended_at: When it left it; null while it runs.
-- seconds: Seconds of the attempt; null while it runs.
-- ended_as: Name of the state that it was left for, such as Completed, AwaitingRetry, Retrying, Crashed; null while it runs.
WITH numbered AS (
    SELECT state.*, SUM(begins) OVER (
        PARTITION BY run_kind, run_id ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS attempt
    FROM (SELECT *, CASE WHEN begins_attempt THEN 1 ELSE 0 END AS begins FROM state_transitions) AS state
),
ends AS (
    SELECT
        run_kind, run_id, attempt - begins AS attempt, name, entered_at,
        ROW_NUMBER() OVER (PARTITION BY run_kind, run_id, attempt - begins ORDER BY number) AS place
    FROM numbered
    WHERE attempt - begins > 0 AND (type <> 'RUNNING' OR begins = 1)
),
starts AS (
    SELECT workspace, run_kind, run_id, attempt, entered_at AS started_at
    FROM numbered
    WHERE begins = 1
)
SELECT
    starts.workspace,
    starts.run_kind,
    starts.run_id,
    starts.attempt,
    starts.started_at,
    ends.entered_at AS ended_at,
    EXTRACT(EPOCH FROM ends.entered_at) - EXTRACT(EPOCH FROM starts.started_at) AS seconds,
    ends.name AS ended_as
FROM starts
LEFT JOIN ends
    ON ends.run_kind = starts.run_kind
    AND ends.run_id = starts.run_id
    AND ends.attempt = starts.attempt
    AND ends.place = 1
