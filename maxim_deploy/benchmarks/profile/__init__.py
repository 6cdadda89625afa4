"""Where the time of one run goes, by block of the published network rather than by node.

`running.profile_bundle` measures, `profile.Profile` is the result, `tables` shows it. Imports
nothing by itself, so that a report does not carry ONNX along.
"""
