-- The figures of run_figures per day.
SELECT *
FROM run_figures
WHERE period = 'day'
