"""Restore a picture with a model on Triton, over HTTP, gRPC or shared memory.

    pip install 'tritonclient[all]' pillow
    python client.py photo.jpg restored.png --model demo-denoise
    python client.py photo.jpg restored.png --model demo-denoise --url grpc://localhost:8001
    python client.py photo.jpg restored.png --model demo-denoise --shared-memory

Shared memory is for a client on the server's machine: pixels do not travel through a socket.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from typing import Any

import numpy as np
from PIL import Image
from tritonclient.utils import InferenceServerException


def restore_over_the_wire(module: Any, client: Any, model: str, picture: np.ndarray) -> np.ndarray:
    """Send the pixels, uint8 RGB [H, W, 3], in the request, and take those in the answer."""
    image = module.InferInput("image", [1, *picture.shape], "UINT8")
    image.set_data_from_numpy(picture[np.newaxis])
    answer = client.infer(model, [image])
    return answer.as_numpy("restored")[0]


def restore_in_shared_memory(
    module: Any, client: Any, model: str, picture: np.ndarray
) -> np.ndarray:
    """Put the pixels where the server reads them, and read where it puts the result."""
    from tritonclient.utils import shared_memory

    # Names are the machine's: another client may be running.
    names = {end: f"maxim-{end}-{os.getpid()}" for end in ("image", "restored")}
    regions = {}
    try:
        for end, name in names.items():
            key = f"/{name}"
            regions[end] = shared_memory.create_shared_memory_region(name, key, picture.nbytes)
            client.register_system_shared_memory(name, key, picture.nbytes)
        shared_memory.set_shared_memory_region(regions["image"], [picture])
        image = module.InferInput("image", [1, *picture.shape], "UINT8")
        image.set_shared_memory(names["image"], picture.nbytes)
        restored = module.InferRequestedOutput("restored")
        restored.set_shared_memory(names["restored"], picture.nbytes)
        client.infer(model, [image], outputs=[restored])
        # A copy: the region goes away.
        return shared_memory.get_contents_as_numpy(
            regions["restored"], np.uint8, picture.shape
        ).copy()
    finally:
        for end, region in regions.items():
            unregister(client, names[end])
            shared_memory.destroy_shared_memory_region(region)


def unregister(client: Any, name: str) -> None:
    """Have the server give a region back, which it may still use for a moment after its answer."""
    for attempt in range(100):
        try:
            client.unregister_system_shared_memory(name)
            return
        except InferenceServerException:
            if attempt == 99:
                raise
            time.sleep(0.01)


def main() -> None:
    """Read a picture, have it restored, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture")
    parser.add_argument("result")
    parser.add_argument("--model", required=True)
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--shared-memory", action="store_true")
    asked = parser.parse_args()
    scheme, _, place = asked.url.partition("://")
    # Both modules have the same names. The client for HTTP is for one thread, that for gRPC for
    # any number of them.
    module = importlib.import_module(f"tritonclient.{scheme}")
    restore = restore_in_shared_memory if asked.shared_memory else restore_over_the_wire
    picture = np.ascontiguousarray(Image.open(asked.picture).convert("RGB"))
    client = module.InferenceServerClient(place)
    try:
        restored = restore(module, client, asked.model, picture)
    except InferenceServerException as error:
        # What maxim-deploy says of a picture that it cannot restore is in the message.
        sys.exit(f"{asked.url}: {error.message()}")
    finally:
        client.close()
    Image.fromarray(restored).save(asked.result)


if __name__ == "__main__":
    main()
