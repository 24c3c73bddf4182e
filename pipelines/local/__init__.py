"""Real servers and databases on this machine, for the demo, the tests, the benchmarks and dbt."""
