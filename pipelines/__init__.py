"""Ready-made pipelines around the `prefect_runs` source, and the `prefect-runs` command."""
