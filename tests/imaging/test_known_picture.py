"""The known picture is the same everywhere, or stored results would be of another one."""

from __future__ import annotations

import hashlib

from maxim_deploy.imaging.known_picture import known_picture


def test_it_is_the_same_everywhere() -> None:
    picture = known_picture()
    assert picture.shape == (1, 3, 64, 64) and picture.dtype == "float32"
    assert 0 <= picture.min() < 0.01 and 0.99 < picture.max() <= 1
    digest = hashlib.sha256(picture.astype("<f4").tobytes()).hexdigest()
    assert digest == "ad02708d21918ad5362b989dad62d1982bfc184d3d2213d49864ab475b3da155"
