-- Work queues per hour: runs that were due, how long they waited to be taken up, and how many were late.
-- hour: Start of the hour in which the runs were due (UTC).
-- runs: Runs that were due in that hour.
-- taken_up: Those that something took up (PENDING).
-- waiting: Those that still wait.
-- marked_late: Those that the server marked as Late.
-- queue_p50: Median seconds from due to taken up.
-- queue_p95: Seconds from due to taken up, of 95 % at most.
SELECT
    run.workspace,
    run.work_pool_name,
    run.work_queue_name,
    DATE_TRUNC('hour', run.expected_start_time AT TIME ZONE 'UTC') AS hour,
    COUNT(*) AS runs,
    SUM(CASE WHEN run.queue_seconds IS NOT NULL THEN 1 ELSE 0 END) AS taken_up,
    SUM(CASE WHEN run.state_type = 'SCHEDULED' AND run.start_time IS NULL AND run.is_live THEN 1 ELSE 0 END) AS waiting,
    SUM(CASE WHEN reached.first_late_at IS NOT NULL THEN 1 ELSE 0 END) AS marked_late,
    QUANTILE_CONT(run.queue_seconds, 0.5) AS queue_p50,
    QUANTILE_CONT(run.queue_seconds, 0.95) AS queue_p95
FROM flow_run_facts AS run
LEFT JOIN run_milestones AS reached ON reached.run_kind = 'flow' AND reached.run_id = run.id
WHERE run.was_due AND run.work_queue_name IS NOT NULL
GROUP BY run.workspace, run.work_pool_name, run.work_queue_name, DATE_TRUNC('hour', run.expected_start_time AT TIME ZONE 'UTC')
