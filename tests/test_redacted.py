"""Credentials that others put into their errors are in none of ours."""

from __future__ import annotations

import time

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
        ("GET http://127.0.0.1:4200/api: ask me@x", "GET http://127.0.0.1:4200/api: ask me@x"),
        ("GET http://[::1]:4200/api: ask me@x", "GET http://[::1]:4200/api: ask me@x"),
        ('at "postgres:postgresql://me:two words@db/x": no', 'at "postgres:postgresql://***@db/x": no'),
        ("postgresql://me:12 34@db/x is not there", "postgresql://***@db/x is not there"),
        ('postgresql://me:it\'s 2 "words"@db/x', "postgresql://***@db/x"),
        ('at "postgres://me:two words@db/x": spaces in "two words"', 'at "postgres://***@db/x": spaces in "***"'),
        ('bad token: "p%4x" in postgres://me:p%4x@db/x', 'bad token: "***" in postgres://***@db/x'),
        ('of "p x" in postgres://me:p%20x@db/x', 'of "***" in postgres://***@db/x'),
        ('unexpected spaces found in "a "b" c", use %20', 'unexpected spaces found in "***", use %20'),
        ('invalid percent-encoded token: "p%4x"', 'invalid percent-encoded token: "***"'),
        ('missing "=" after "words" in connection info', 'missing "=" after "***" in connection info'),
        ("a role at postgres://me:a@db/x", "a role at postgres://***@db/x"),
        ("https://me:123 words@proxy/x", "https://***@proxy/x"),
        ("http://me:two words@proxy:3128 is no URL", "http://***@proxy:3128 is no URL"),
        ('password = s3cret, {"password": "two words", "user": 1}', 'password = ***, {"password": ***, "user": 1}'),
        ("""password="two 'words'" 'aws_secret_access_key': 'k/+'""", "password=*** 'aws_secret_access_key': ***"),
        ("md:lake?motherduck_token=eyJ.a-b&x=1", "md:lake?motherduck_token=***&x=1"),
        ("SECRET 'it''s', PASSWORD 's3cret'", "SECRET ***, PASSWORD ***"),
        ("syntax error: unexpected token at the secret", "syntax error: unexpected token at the secret"),
    ],
)
def test_credentials_become_stars(said: object, shown: str) -> None:
    assert redacted(said) == shown


def test_a_long_word_is_read_once() -> None:
    begun = time.process_time()
    assert redacted("a" * 100_000) == "a" * 100_000
    # a second for each start in it would be a day
    assert time.process_time() - begun < 10
