"""Reads tables with Spark and writes what queries give; to be run by a Python that has pyspark.

    python spark_reader.py JOB.json

Imports nothing of this project: its environment has pyspark alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession  # type: ignore[import-not-found]


def session() -> SparkSession:
    """A Spark of one process, with times in UTC."""
    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.shuffle.partitions": "2",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def main() -> None:
    """Carry out the job: views of tables, then views of queries, then the answers of questions into folders."""
    job = json.loads(Path(sys.argv[1]).read_text())
    spark = session()
    for name, files in job["tables"].items():
        spark.read.option("mergeSchema", True).parquet(*files).createOrReplaceTempView(name)
    for name, sql in job["views"].items():
        spark.sql(sql).createOrReplaceTempView(name)
    for folder, sql in job["answers"].items():
        spark.sql(sql).coalesce(1).write.parquet(folder)
    print(spark.version)
    spark.stop()


if __name__ == "__main__":
    main()
