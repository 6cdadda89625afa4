"""`maxim-deploy accept`: acceptance tests on the current machine."""
