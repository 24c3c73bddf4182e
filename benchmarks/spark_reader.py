"""Reads tables with Spark and writes what queries give; to be run by a Python that has pyspark.

    python spark_reader.py JOB.json

Imports nothing of this project: its environment has pyspark and Iceberg's library alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import snowpark_connect_deps_iceberg  # type: ignore[import-not-found]
from pyspark.sql import DataFrame, SparkSession  # type: ignore[import-not-found]


def session() -> SparkSession:
    """A Spark of one process that reads Iceberg tables, with times in UTC."""
    [jar] = Path(snowpark_connect_deps_iceberg.__file__).parent.glob("jars/iceberg-spark-runtime-*_2.12-*.jar")
    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.jars": str(jar),
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


def rows(spark: SparkSession, source: dict[str, object]) -> DataFrame:
    """All rows of an Iceberg table, of its `metadata` file, or of parquet `files`."""
    if "metadata" in source:
        return spark.read.format("iceberg").load(source["metadata"])
    return spark.read.option("mergeSchema", True).parquet(*source["files"])


def main() -> None:
    """Carry out the job: views of tables, then views of queries, then the answers of questions into folders."""
    job = json.loads(Path(sys.argv[1]).read_text())
    spark = session()
    for name, source in job["tables"].items():
        rows(spark, source).createOrReplaceTempView(name)
    for name, sql in job["views"].items():
        spark.sql(sql).createOrReplaceTempView(name)
    for folder, sql in job["answers"].items():
        spark.sql(sql).coalesce(1).write.parquet(folder)
    print(spark.version)
    spark.stop()


if __name__ == "__main__":
    main()
