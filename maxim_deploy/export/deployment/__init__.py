"""The deployment form of the network, made by exact rewrites."""

from maxim_deploy.export.deployment.network import DeploymentMaxim
from maxim_deploy.export.deployment.rewrites import FORMS, REWRITES, Rewrites

__all__ = ["FORMS", "REWRITES", "DeploymentMaxim", "Rewrites"]
