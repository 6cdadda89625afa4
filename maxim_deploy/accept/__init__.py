"""`maxim-deploy accept`: on the machine at hand, every step that says whether it keeps promises."""
