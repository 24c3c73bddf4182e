"""Credentials that others put into their errors are in none of ours."""

from __future__ import annotations

import pytest

from prefect_runs_pipelines.redacted import redacted


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cannot reach postgresql://loader:s3cret@db:5432/lake", "cannot reach postgresql://***@db:5432/lake"),
        ('at path "postgres:postgresql://me:p@ss/word@db/x": no', 'at path "postgres:postgresql://***@db/x": no'),
        ("dbname=lake user=me password=s3cret host=db", "dbname=lake user=me password=*** host=db"),
        ("password='a b' sslpassword=c;Pwd=d, next", "password=*** sslpassword=***;Pwd=***, next"),
        (ValueError('password authentication failed for user "me"'), 'password authentication failed for user "me"'),
        ("GET http://127.0.0.1:4200/api got no answer", "GET http://127.0.0.1:4200/api got no answer"),
    ],
)
def test_credentials_become_stars(said: object, shown: str) -> None:
    assert redacted(said) == shown
