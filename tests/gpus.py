"""A GPU that is not here, as the machine's facts name it."""

from __future__ import annotations

from maxim_deploy.machine.gpu import Gpu

L4 = Gpu("NVIDIA L4", "8.9", 24 * 10**9, "13.0")
