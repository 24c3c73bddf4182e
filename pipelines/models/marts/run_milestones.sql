-- One row a run with a history: when it first came where, and whether somebody forced its state.
-- first_pending_at: When the run first entered PENDING: something took it up.
-- first_running_at: When the run first entered RUNNING.
-- first_late_at: When the server first marked the run as Late; null if it never did.
-- first_late_over_at: When the run, once Late, entered RUNNING or CRASHED.
-- ends_left: Times that the run went on, or was set to another terminal state, after it had ended (leaves_end).
-- forced_changes: Times that the run was set from one terminal state to another.
-- resumes: Times that the run ran on after a pause. A pause that ended the run, as one does that takes too long, has none.
-- retries: Times that the run began anew: entries into RUNNING, but for the first and for resumes.
-- states: Number of states of the run.
WITH states AS (
    SELECT
        transition.*,
        COALESCE(previous_type = 'PAUSED' AND type IN ('SCHEDULED', 'PENDING', 'RUNNING'), FALSE) AS ends_pause
    FROM state_transitions AS transition
),
late AS (
    SELECT run_kind, run_id, MIN(entered_at) AS first_late_at
    FROM state_transitions
    WHERE name = 'Late'
    GROUP BY run_kind, run_id
),
counted AS (
    SELECT
        state.workspace,
        state.run_kind,
        state.run_id,
        COUNT(*) AS states,
        MIN(CASE WHEN state.type = 'PENDING' THEN state.entered_at END) AS first_pending_at,
        MIN(CASE WHEN state.type = 'RUNNING' THEN state.entered_at END) AS first_running_at,
        MIN(late.first_late_at) AS first_late_at,
        MIN(
            CASE WHEN state.type IN ('RUNNING', 'CRASHED') AND state.entered_at > late.first_late_at THEN state.entered_at END
        ) AS first_late_over_at,
        SUM(CASE WHEN state.leaves_end THEN 1 ELSE 0 END) AS ends_left,
        SUM(CASE WHEN state.is_forced THEN 1 ELSE 0 END) AS forced_changes,
        SUM(CASE WHEN state.begins_attempt THEN 1 ELSE 0 END) AS attempts,
        -- what was to go on and did not run is none
        SUM(CASE WHEN state.ends_pause THEN 1 ELSE 0 END)
        - CASE
            WHEN MAX(CASE WHEN state.ends_pause THEN state.number END)
                > MAX(CASE WHEN state.type = 'RUNNING' THEN state.number END) THEN 1
            ELSE 0
        END AS resumes
    FROM states AS state
    LEFT JOIN late ON late.run_kind = state.run_kind AND late.run_id = state.run_id
    GROUP BY state.workspace, state.run_kind, state.run_id
)
SELECT
    workspace,
    run_kind,
    run_id,
    states,
    first_pending_at,
    first_running_at,
    first_late_at,
    first_late_over_at,
    ends_left,
    forced_changes,
    resumes,
    CASE WHEN attempts > 1 + resumes THEN attempts - 1 - resumes ELSE 0 END AS retries
FROM counted
