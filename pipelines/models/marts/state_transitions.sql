-- One row a state that a run entered, with the one before it and the seconds until the next.
-- entered_at: When the state was entered.
-- left_at: When the next state was entered; null for the last one.
-- seconds: Seconds in the state; null for the last one.
-- number: Number of the state in its run, from 1, counted here.
-- previous_type: Type of the state before; null for the first.
-- previous_name: Name of the state before; null for the first.
-- leaves_end: Whether the run had ended before. Not so of the roll-back of a transaction (RolledBack), nor of a task run that the server cancelled while its client went on.
-- is_forced: Whether a run that had ended (leaves_end) was set to another terminal state, which no flow or worker does by itself.
-- begins_attempt: Whether the run began an attempt with it: RUNNING after another state, or a retry without delay (Retrying).
WITH ordered AS (
    SELECT
        states.*,
        ROW_NUMBER() OVER history AS number,
        LAG(type) OVER history AS previous_type,
        LAG(name) OVER history AS previous_name,
        LEAD(timestamp) OVER history AS left_at
    FROM stg_run_states AS states
    WINDOW history AS (PARTITION BY run_kind, run_id ORDER BY timestamp, sequence)
),
judged AS (
    SELECT
        ordered.*,
        COALESCE(
            previous_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')
            AND COALESCE(name, '') <> 'RolledBack'
            AND NOT (run_kind = 'task' AND previous_type = 'CANCELLED'),
            FALSE
        ) AS leaves_end
    FROM ordered
)
SELECT
    id,
    workspace,
    run_kind,
    run_id,
    number,
    type,
    name,
    message,
    timestamp AS entered_at,
    left_at,
    EXTRACT(EPOCH FROM left_at) - EXTRACT(EPOCH FROM timestamp) AS seconds,
    previous_type,
    previous_name,
    leaves_end,
    leaves_end AND COALESCE(type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED'), FALSE) AS is_forced,
    COALESCE(
        type = 'RUNNING' AND (COALESCE(previous_type, '') <> 'RUNNING' OR name = 'Retrying'),
        FALSE
    ) AS begins_attempt
FROM judged
