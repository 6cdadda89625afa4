"""Restores image and video files, single or in folders. `maxim_deploy` exports the public API."""
