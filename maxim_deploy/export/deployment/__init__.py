"""The deployment form of the network, and the exact rewrites that lead to it."""

from maxim_deploy.export.deployment.network import DeploymentMaxim
from maxim_deploy.export.deployment.rewrites import REWRITES, Rewrites

__all__ = ["REWRITES", "DeploymentMaxim", "Rewrites"]
