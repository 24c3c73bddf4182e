-- Work queues per hour: runs that were due, how long they waited to be taken up, and how many were late.
-- hour: Start of the hour in which the runs were due (UTC).
-- runs: Runs that were due in that hour.
-- taken_up: Those that something took up (PENDING); null where no history was loaded.
-- waiting: Those that still wait.
-- marked_late: Those that the server marked as Late; null where no history was loaded and none is Late now.
-- queue_p50: Median seconds from due to taken up.
-- queue_p95: Seconds from due to taken up, of 95 % at most.
SELECT
    run.workspace,
    run.work_pool_name,
    run.work_queue_name,
    DATE_TRUNC('hour', run.expected_start_time AT TIME ZONE 'UTC') AS hour,
    COUNT(*) AS runs,
    CASE
        WHEN COUNT(run.is_prefect_success) > 0 THEN SUM(CASE WHEN run.queue_seconds IS NOT NULL THEN 1 ELSE 0 END)
    END AS taken_up,
    SUM(CASE WHEN run.state_type = 'SCHEDULED' AND run.start_time IS NULL AND run.is_live THEN 1 ELSE 0 END) AS waiting,
    CASE WHEN COUNT(run.is_late) > 0 THEN SUM(CASE WHEN run.is_late THEN 1 ELSE 0 END) END AS marked_late,
    QUANTILE_CONT(run.queue_seconds, 0.5) AS queue_p50,
    QUANTILE_CONT(run.queue_seconds, 0.95) AS queue_p95
FROM flow_run_facts AS run
WHERE run.was_due AND run.work_queue_name IS NOT NULL
GROUP BY run.workspace, run.work_pool_name, run.work_queue_name, DATE_TRUNC('hour', run.expected_start_time AT TIME ZONE 'UTC')
