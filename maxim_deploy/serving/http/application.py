"""The addresses of the service."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from maxim_deploy._version import __version__
from maxim_deploy.imaging.kinds import READ_FORMATS
from maxim_deploy.serving.http.formats import MEDIA_TYPES
from maxim_deploy.serving.http.service import Service


def application_of(service: Service) -> Starlette:
    """`POST /restore`, and what people, probes and Prometheus `GET`."""

    async def about(_: Request) -> Response:
        return JSONResponse(_about(service))

    async def healthz(_: Request) -> Response:
        state = await service.health.state()
        return JSONResponse({"status": state}, 503 if state == "failing" else 200)

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    async def told(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse(
            {"error": _ADVICE.get(error.status_code, error.detail)},
            error.status_code,
            error.headers,
        )

    return Starlette(
        routes=[
            Route("/", about),
            Route("/restore", service, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/metrics", metrics),
        ],
        exception_handlers={HTTPException: told},
    )


_ADVICE = {
    404: "there is nothing at this address | POST a picture to /restore; GET / says more",
    405: "this address takes another method | POST a picture to /restore; GET / says more",
}


def _about(service: Service) -> dict[str, object]:
    info, limits = service.info, service.limits
    return {
        "maxim_deploy": __version__,
        "model": info.model.name,
        "task": info.model.task,
        "backend": info.backend,
        "precision": info.precision,
        "device": info.device,
        "restore": "POST the picture itself to /restore; ?format=png, jpeg, webp, tiff or bmp",
        "reads": list(READ_FORMATS),
        "writes": list(MEDIA_TYPES.values()),
        "most_bytes": limits.most_bytes,
        "most_pixels": limits.most_pixels,
        "timeout_s": limits.timeout_s,
        "queue": limits.queue,
    }
