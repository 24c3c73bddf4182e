-- The figures of run_figures per hour.
SELECT *
FROM run_figures
WHERE period = 'hour'
