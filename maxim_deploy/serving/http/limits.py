"""What one request may take, and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """The limits of a service.

    Attributes:
        most_bytes: of the body of a request.
        most_pixels: of a picture.
        timeout_s: seconds from the arrival of a request to its restored picture.
        queue: requests that may be under way beside those that the network runs.

    Raises:
        UsageError: a limit lets nothing through.
    """

    most_bytes: int = 64 * 2**20
    most_pixels: int = 50_000_000
    timeout_s: float = 300.0
    queue: int = 16

    def __post_init__(self) -> None:
        for name, least in (("most_bytes", 1), ("most_pixels", 1), ("queue", 0)):
            if (value := getattr(self, name)) < least:
                raise UsageError(f"{name} must be at least {least}, not {value}")
        if not 0 < self.timeout_s < float("inf"):
            raise UsageError(f"timeout_s must be more than 0 and finite, not {self.timeout_s}")
