"""Attributes the time of one run to the blocks of the published network.

`bundle_profile.profile_bundle` measures, `profile.LayerProfile` is the result, and `tables` shows
it. The package imports nothing by itself, so that a report does not load ONNX.
"""
