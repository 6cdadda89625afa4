"""Plans that come to an end, and that engines of few sizes take."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.test_batches import Gaining
from runtime.test_tiles import restorer_of

from maxim_deploy import BackendError


class Patient(Gaining):
    """Loses patience with the same again and again."""

    def run(self, image: np.ndarray) -> np.ndarray:
        assert len(self.shapes) < 50, "the same runs come back forever"
        return super().run(image)


@pytest.mark.parametrize("io", ["image", "tensor"])
@pytest.mark.parametrize("size", [(65, 257), (257, 257), (700, 500), (1, 1)])
def test_always_out_of_memory_is_an_error(io: str, size: tuple[int, int]) -> None:
    backend = Patient(room=0, io=io)
    with pytest.raises(BackendError, match="no room for"):
        restorer_of(backend)(np.zeros((*size, 3), np.uint8))
    assert len(set(backend.shapes)) == len(backend.shapes)  # each is tried once


def test_small_images_of_the_image_form_run_alone_if_they_must() -> None:
    backend = Patient(room=33 * 33, io="image")
    images = [np.full((33, 33, 3), 9, np.uint8)] * 8
    assert all((one == 18).all() for one in restorer_of(backend).batch(images))
    assert [shape[0] for shape in backend.shapes] == [8, 4, 2] + [1] * 8
