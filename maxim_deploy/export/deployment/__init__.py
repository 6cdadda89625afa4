"""The deployment form of the network, and the exact rewrites that lead to it."""

from maxim_deploy.export.deployment.network import DeploymentMaxim
from maxim_deploy.export.deployment.rewrites import FORMS, REWRITES, Rewrites

__all__ = ["FORMS", "REWRITES", "DeploymentMaxim", "Rewrites"]
