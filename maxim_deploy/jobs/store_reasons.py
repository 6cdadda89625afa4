"""Reasons for a store's refusal, in words without secrets.

The text of a library's error may contain a signed URL or a key, so it is never shown. The words
depend on the error's type, the store's code and the status of the answer instead.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from maxim_deploy.errors import MaximDeployError, StoreError

_BY_CODE = {
    "NoSuchKey": "there is no such object",
    "AccessDenied": "access is denied | check the permissions",
    "NoSuchBucket": "there is no such bucket | check its name and region",
    "InvalidAccessKeyId": "the store does not know the access key | check the credentials",
    "SignatureDoesNotMatch": "the secret key is wrong | check the credentials",
    "ExpiredToken": "the credentials have expired | renew them",
    "InvalidToken": "the session token is wrong | renew the credentials",
    "RequestTimeTooSkewed": "the clock of this machine is wrong | set it",
    "AuthorizationHeaderMalformed": "the bucket is in another region | set AWS_DEFAULT_REGION",
    "PermanentRedirect": "the bucket is in another region | set AWS_DEFAULT_REGION",
    "SlowDown": "the store asks for fewer requests | run fewer processes, and continue with "
    "--resume",
}
"""Reasons by the code of an answer of S3."""

_BY_TYPE = {
    "NoCredentialsError": "no credentials | set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "incomplete credentials | set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "there is no such profile | check AWS_PROFILE",
    "EndpointConnectionError": "the server cannot be reached | check the network and the address",
    "ConnectTimeoutError": "the server cannot be reached | check the network and the address",
    "ClientConnectorError": "the server cannot be reached | check the network and the address",
    "ClientConnectorDNSError": "the server's name is not known | check the network and the address",
    "ConnectionRefusedError": "the server cannot be reached | check the network and the address",
    "gaierror": "the server's name is not known | check the network and the address",
    "ClientConnectorCertificateError": "the server's certificate is not valid",
    "SSLError": "the server's certificate is not valid",
    "ClientPayloadError": "the connection broke before the end | try again",
    "ConnectionClosedError": "the connection broke before the end | try again",
    "ServerDisconnectedError": "the connection broke before the end | try again",
    "ReadTimeoutError": "the server does not answer | try again",
    "InvalidURL": "this is not a valid URL",
    "InvalidUrlClientError": "this is not a valid URL",
    "ParamValidationError": "a bucket cannot have this name",
}
"""Reasons by the name of the error's class, because its library need not be installed."""

_BY_STATUS = {
    int(HTTPStatus.FORBIDDEN): "access is denied | check the permissions",
    int(HTTPStatus.UNAUTHORIZED): "access is denied | check the permissions",
    int(HTTPStatus.NOT_FOUND): "there is no such object",
}


@contextmanager
def store_errors(name: str, what: str) -> Iterator[None]:
    """Turn every error of a library into a `StoreError` that names the object.

    Args:
        name: the URL of the object, without secrets.
        what: participle of the operation, such as "read".

    Raises:
        StoreError: the block fails.
    """
    try:
        yield
    except MaximDeployError:
        raise
    except Exception as error:
        # The exception itself is dropped with its text, also from tracebacks.
        raise StoreError(f"'{name}' | cannot be {what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """The reason of an error, and what to do if that is known."""
    chain = _chain(error)
    for one in chain:
        if (
            told := _BY_CODE.get(_code(one))
            or _told_by_type(one)
            or _BY_STATUS.get(_status(one) or 0)
        ):
            return told
    for one in chain:
        if answer := _code(one) or _status(one):
            return f"the server answers {answer}"
    for one in chain:
        if told := _told_by_python(one):
            return told
    return type(chain[-1]).__name__


def _told_by_type(error: BaseException) -> str | None:
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((_BY_TYPE[name] for name in names if name in _BY_TYPE), None)


def _told_by_python(error: BaseException) -> str | None:
    """The reason of a Python exception that fsspec, s3fs or a disk raises."""
    if isinstance(error, FileNotFoundError):
        return "there is no such object"
    if isinstance(error, PermissionError):
        return "access is denied | check the permissions"
    if isinstance(error, TimeoutError):
        return "the server does not answer | try again"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space is left on the disk | set TMPDIR to a folder with more space"
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes. Libraries wrap the error that says most."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    return chain


def _code(error: BaseException) -> str:
    """The code of an S3 error; empty for other errors."""
    response: Any = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    # Letters and digits only: a code is a name, and other text may contain a secret.
    return code if isinstance(code, str) and code.isalnum() and not code.isdigit() else ""


def _status(error: BaseException) -> int | None:
    """The status of an HTTP answer; None for other errors."""
    status = getattr(error, "status", None)
    response = getattr(error, "response", None)
    if status is None and isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None
